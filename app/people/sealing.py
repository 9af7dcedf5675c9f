"""What is sealed of a person and of a mail to one, and the tokens that mails carry.

Sealed records are maps by name (`kit/crypto/sealed_records.py`): a field may be added, with a default, at any time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from app.kit.crypto.sealed_records import RecordCodec
from app.kit.crypto.sealing import SIGNER_BYTES, KeyRing

_SIGN_IN = b"sign-in"
_BINDING = b"sign-in.binding"
_DEVICE = b"sign-in.device"
_UNSUBSCRIBE = b"unsubscribe"
_ID_BYTES = 16
# Seconds since 1970, until the year 36812.
_SECONDS_BYTES = 5


@dataclass(frozen=True, slots=True)
class Details:
    """What is kept of a person. None: nobody has ever said; "": the person has taken it away."""

    email: str
    given_name: str | None = None
    family_name: str | None = None
    locale: str | None = None
    phone: str | None = None
    cell: str | None = None


@dataclass(frozen=True, slots=True)
class MailContent:
    """What a waiting mail is about. A link to sign in: `sign_in`, `email`, `locale`; a welcome: `organization`."""

    sign_in: UUID | None = None
    organization: UUID | None = None
    email: str | None = None
    locale: str | None = None


_DETAILS = RecordCodec(Details)
_MAIL = RecordCodec(MailContent)


class SignInToken(NamedTuple):
    """What the link in a mail says: the id of the sign-in that was asked for, and the address the mail went to."""

    sign_in_id: UUID
    email: str
    locale: str


def people_identity(signer: bytes) -> bytes:
    """What the sealed part of a person's row is bound to."""
    return b"people.sealed" + signer


def mails_identity(id_: UUID) -> bytes:
    """What the sealed part of a waiting mail is bound to."""
    return b"mails.sealed" + id_.bytes


def sessions_identity(id_: UUID) -> bytes:
    """What the sealed part of a session is bound to."""
    return b"person_sessions.sealed" + id_.bytes


def seal_details(ring: KeyRing, signer: bytes, details: Details) -> bytes:
    """A person's details, sealed for their row."""
    return _DETAILS.seal(ring, details, people_identity(signer))


def reseal_details(ring: KeyRing, signer: bytes, former: bytes, details: Details) -> bytes:
    """Changed details for the same row; what a newer version keeps there stays. SealBrokenError."""
    return _DETAILS.reseal(ring, former, details, people_identity(signer))


def open_details(ring: KeyRing, signer: bytes, sealed: bytes) -> Details:
    """A person's details; SealBrokenError when they were sealed for somebody else or under an unknown key."""
    return _DETAILS.open(ring, sealed, people_identity(signer))


def seal_session(ring: KeyRing, id_: UUID, details: Details) -> bytes:
    """The address and locale that a session was asked for with, sealed for its row."""
    return _DETAILS.seal(ring, details, sessions_identity(id_))


def open_session(ring: KeyRing, id_: UUID, sealed: bytes) -> Details:
    """The address and locale that a session was asked for with; SealBrokenError."""
    return _DETAILS.open(ring, sealed, sessions_identity(id_))


def seal_mail(ring: KeyRing, id_: UUID, content: MailContent) -> bytes:
    """What a waiting mail is about, sealed for its row."""
    return _MAIL.seal(ring, content, mails_identity(id_))


def open_mail(ring: KeyRing, id_: UUID, sealed: bytes) -> MailContent:
    """What a waiting mail is about; SealBrokenError."""
    return _MAIL.open(ring, sealed, mails_identity(id_))


def write_sign_in_token(ring: KeyRing, token: SignInToken) -> str:
    """The token of a sign-in link, URL-safe. It is written when the mail is sent and kept nowhere."""
    plain = token.sign_in_id.bytes + f"{token.locale} {token.email}".encode()
    return ring.write_token(plain, _SIGN_IN)


def read_sign_in_token(ring: KeyRing, token: str) -> SignInToken:
    """What the token says; SealBrokenError when it is not one of ours."""
    plain = ring.read_token(token, _SIGN_IN)
    locale, _, email = plain[_ID_BYTES:].decode().partition(" ")
    return SignInToken(UUID(bytes=plain[:_ID_BYTES]), email, locale)


class SignerAt(NamedTuple):
    """A person, by their key, and the moment (UTC, to the second) at which a token for them was written."""

    signer: bytes
    written_at: datetime


def write_binding(ring: KeyRing, signer: bytes, moment: datetime) -> str:
    """What a browser keeps to show that it asked for a link for this person; URL-safe, 68 characters."""
    return ring.write_token(_signer_at(signer, moment), _BINDING)


def read_binding(ring: KeyRing, binding: str) -> SignerAt:
    """Whom a browser has asked for, and when; SealBrokenError when it is not one of ours."""
    return _read_signer_at(ring, binding, _BINDING)


def write_device_token(ring: KeyRing, signer: bytes, moment: datetime) -> str:
    """What a device keeps to show that this person has signed in on it; URL-safe, 68 characters."""
    return ring.write_token(_signer_at(signer, moment), _DEVICE)


def read_device_token(ring: KeyRing, token: str) -> SignerAt:
    """Who has signed in on a device, and when; SealBrokenError when it is not one of ours."""
    return _read_signer_at(ring, token, _DEVICE)


def _signer_at(signer: bytes, moment: datetime) -> bytes:
    return signer + int(moment.timestamp()).to_bytes(_SECONDS_BYTES)


def _read_signer_at(ring: KeyRing, token: str, purpose: bytes) -> SignerAt:
    plain = ring.read_token(token, purpose)
    return SignerAt(plain[:SIGNER_BYTES], datetime.fromtimestamp(int.from_bytes(plain[SIGNER_BYTES:]), UTC))


def write_unsubscribe_token(ring: KeyRing, signer: bytes, organization_id: UUID) -> str:
    """The token of an unsubscribe link, URL-safe, 83 characters. It does not expire: mails are read late."""
    return ring.write_token(signer + organization_id.bytes, _UNSUBSCRIBE)


def read_unsubscribe_token(ring: KeyRing, token: str) -> tuple[bytes, UUID]:
    """Who wants no more mails from which organization; SealBrokenError when it is not one of ours."""
    plain = ring.read_token(token, _UNSUBSCRIBE)
    return plain[:SIGNER_BYTES], UUID(bytes=plain[SIGNER_BYTES:])


def write_cursor(ring: KeyRing, organization_id: UUID, signer: bytes) -> str:
    """Where a page of people ends, 62 characters; sealed, for a cursor stands in logs and a digest lasts."""
    return ring.write_token(signer, b"people.cursor" + organization_id.bytes)


def read_cursor(ring: KeyRing, organization_id: UUID, cursor: str) -> bytes:
    """The signer behind whom a page starts; SealBrokenError."""
    return ring.read_token(cursor, b"people.cursor" + organization_id.bytes)
