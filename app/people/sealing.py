"""What is sealed of a person and of a mail to one, and the tokens that mails carry."""

import base64
import binascii
import json
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.crypto.sealing import SIGNER_BYTES, KeyRing, SealBrokenError

Json = dict[str, Any]

_SIGN_IN = b"sign-in"
_UNSUBSCRIBE = b"unsubscribe"
_ID_BYTES = 16


class Details(NamedTuple):
    """What is kept of a person. None: nobody has ever said; "": the person has taken it away."""

    email: str
    given_name: str | None = None
    family_name: str | None = None
    locale: str | None = None
    phone: str | None = None
    cell: str | None = None


class SignInToken(NamedTuple):
    """What the link in a mail says: which asking it answers, and the address the mail went to."""

    sign_in_id: UUID
    email: str
    locale: str


def people_identity(signer: bytes) -> bytes:
    """What the sealed part of a person's row is bound to."""
    return b"people.sealed" + signer


def mails_identity(id_: UUID) -> bytes:
    """What the sealed part of a waiting mail is bound to."""
    return b"mails.sealed" + id_.bytes


def seal_details(ring: KeyRing, signer: bytes, details: Details) -> bytes:
    """A person's details, sealed for their row."""
    said = {name: value for name, value in details._asdict().items() if value is not None}
    return ring.seal(_dumped(said), people_identity(signer))


def open_details(ring: KeyRing, signer: bytes, sealed: bytes) -> Details:
    """A person's details; SealBrokenError when they were sealed for somebody else or under an unknown key."""
    return Details(**json.loads(ring.open(sealed, people_identity(signer))))


def seal_mail(ring: KeyRing, id_: UUID, content: Json) -> bytes:
    """What a waiting mail is about, sealed for its row."""
    return ring.seal(_dumped(content), mails_identity(id_))


def open_mail(ring: KeyRing, id_: UUID, sealed: bytes) -> Json:
    """What a waiting mail is about; SealBrokenError."""
    content: Json = json.loads(ring.open(sealed, mails_identity(id_)))
    return content


def _dumped(content: Json) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def write_sign_in_token(ring: KeyRing, token: SignInToken) -> str:
    """The token of a sign-in link, URL-safe. It is written when the mail is sent and kept nowhere."""
    plain = token.sign_in_id.bytes + f"{token.locale} {token.email}".encode()
    return _spelt(ring.seal_token(plain, _SIGN_IN))


def read_sign_in_token(ring: KeyRing, token: str) -> SignInToken:
    """What the token says; SealBrokenError when it is not one of ours."""
    plain = ring.open_token(_unspelt(token), _SIGN_IN)
    locale, _, email = plain[_ID_BYTES:].decode().partition(" ")
    return SignInToken(UUID(bytes=plain[:_ID_BYTES]), email, locale)


def write_unsubscribe_token(ring: KeyRing, signer: bytes, organization_id: UUID) -> str:
    """The token of an unsubscribe link, URL-safe, 83 characters. It does not expire: mails are read late."""
    return _spelt(ring.seal_token(signer + organization_id.bytes, _UNSUBSCRIBE))


def read_unsubscribe_token(ring: KeyRing, token: str) -> tuple[bytes, UUID]:
    """Who wants no more mails from which organization; SealBrokenError when it is not one of ours."""
    plain = ring.open_token(_unspelt(token), _UNSUBSCRIBE)
    return plain[:SIGNER_BYTES], UUID(bytes=plain[SIGNER_BYTES:])


def write_cursor(ring: KeyRing, organization_id: UUID, signer: bytes) -> str:
    """Where a page of people ends, 62 characters; sealed, for a cursor stands in logs and a digest lasts."""
    return _spelt(ring.seal_token(signer, b"people.cursor" + organization_id.bytes))


def read_cursor(ring: KeyRing, organization_id: UUID, cursor: str) -> bytes:
    """The signer behind whom a page starts; SealBrokenError."""
    return ring.open_token(_unspelt(cursor), b"people.cursor" + organization_id.bytes)


def _spelt(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _unspelt(token: str) -> bytes:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealBrokenError from None
