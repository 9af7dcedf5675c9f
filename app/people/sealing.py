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
    # Whether the person has said these names themself: signed in, or with an attempt that they have proven.
    proven: bool = False
    # Whether they have said them on their own page, to whomever they agree there.
    on_own_page: bool = False


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


def contacts_identity(organization_id: UUID, signer: bytes) -> bytes:
    """What the sealed part of a contact's row is bound to."""
    return b"contacts.sealed" + organization_id.bytes + signer


def seal_contact(ring: KeyRing, organization_id: UUID, signer: bytes, details: Details) -> bytes:
    """What an organization is shown of a person, sealed for the contact's row."""
    return _DETAILS.seal(ring, details, contacts_identity(organization_id, signer))


def open_contact(ring: KeyRing, organization_id: UUID, signer: bytes, sealed: bytes) -> Details:
    """What an organization is shown of a person; SealBrokenError."""
    return _DETAILS.open(ring, sealed, contacts_identity(organization_id, signer))


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


class Binding(NamedTuple):
    """For whom a browser has asked, with which address and locale, and when (UTC, to the second)."""

    signer: bytes
    asked_at: datetime
    email: str
    locale: str


def write_binding(ring: KeyRing, binding: Binding) -> str:
    """What a browser keeps to show that it has asked; URL-safe, 70 characters and four for three of the address."""
    plain = binding.signer + _seconds(binding.asked_at) + f"{binding.locale} {binding.email}".encode()
    return ring.write_token(plain, _BINDING)


def read_binding(ring: KeyRing, binding: str) -> Binding:
    """What a browser has asked for; SealBrokenError when it is not one of ours."""
    plain = ring.read_token(binding, _BINDING, digest_at=0)
    locale, _, email = plain[SIGNER_BYTES + _SECONDS_BYTES :].decode().partition(" ")
    return Binding(plain[:SIGNER_BYTES], _moment(plain[SIGNER_BYTES : SIGNER_BYTES + _SECONDS_BYTES]), email, locale)


class Device(NamedTuple):
    """Who has signed in on a device, and when (UTC, to the second)."""

    signer: bytes
    signed_in_at: datetime


def write_device_token(ring: KeyRing, device: Device) -> str:
    """What a device keeps to show who has signed in on it; URL-safe, 68 characters."""
    return ring.write_token(device.signer + _seconds(device.signed_in_at), _DEVICE)


def read_device_token(ring: KeyRing, token: str) -> Device:
    """Who has signed in on a device; SealBrokenError when it is not one of ours."""
    plain = ring.read_token(token, _DEVICE, digest_at=0)
    return Device(plain[:SIGNER_BYTES], _moment(plain[SIGNER_BYTES:]))


def _seconds(moment: datetime) -> bytes:
    return int(moment.timestamp()).to_bytes(_SECONDS_BYTES)


def _moment(seconds: bytes) -> datetime:
    return datetime.fromtimestamp(int.from_bytes(seconds), UTC)


def write_unsubscribe_token(ring: KeyRing, signer: bytes, organization_id: UUID) -> str:
    """The token of an unsubscribe link, URL-safe, 83 characters. It does not expire: mails are read late."""
    return ring.write_token(signer + organization_id.bytes, _UNSUBSCRIBE)


def read_unsubscribe_token(ring: KeyRing, token: str) -> tuple[bytes, UUID]:
    """Who wants no more mails from which organization; SealBrokenError when it is not one of ours."""
    plain = ring.read_token(token, _UNSUBSCRIBE, digest_at=0)
    return plain[:SIGNER_BYTES], UUID(bytes=plain[SIGNER_BYTES:])


def write_cursor(ring: KeyRing, organization_id: UUID, signer: bytes) -> str:
    """Where a page of people ends, 62 characters; sealed, for a cursor stands in logs and a digest lasts."""
    return ring.write_token(signer, b"people.cursor" + organization_id.bytes)


def read_cursor(ring: KeyRing, organization_id: UUID, cursor: str) -> bytes:
    """The signer behind whom a page starts; SealBrokenError."""
    return ring.read_token(cursor, b"people.cursor" + organization_id.bytes, digest_at=0)
