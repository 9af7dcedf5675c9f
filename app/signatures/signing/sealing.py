"""The sealed record of a signature, and the tokens sealed for its signer: receipt and confirmation link.

The record holds every field of the signer's body that is marked `Sealed` (`schemas.py`), as text by name. Two versions
can serve side by side: names that one does not know are ignored, and kept when the record is sealed anew. What the
versions before could say is written as they wrote it.

A receipt is the sealed (signer, attempt) pair: it is about that attempt, and no other of the same person. The receipt
of a signing is held by whoever typed the address; a proven receipt, by whoever reads the mailbox.
"""

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple, get_type_hints
from uuid import UUID

from pydantic import Field
from pydantic_core import to_json

from app.kit.crypto.sealed_records import RecordCodec
from app.kit.crypto.sealing import SIGNER_BYTES, KeyRing, SealBrokenError
from app.signatures.schemas import Sealed, SignatureBody, Unlisted

_RECEIPT_BYTES = SIGNER_BYTES + 16
# Seconds since 1970, until the year 36812.
_SECONDS_BYTES = 5

_OF_BODY = {
    name: mark.short
    for name, info in SignatureBody.model_fields.items()
    for mark in info.metadata
    if isinstance(mark, Sealed)
}
# `reference` is a partner's own id of the signature; it is not said by the signer.
_UNLISTED = {
    name: mark.short
    for name, hint in get_type_hints(Unlisted, include_extras=True).items()
    for mark in hint.__metadata__
}
SHORT_NAMES = _OF_BODY | _UNLISTED | {"reference": "x"}

# A class made of the fields that are marked in the body; to a type checker, one whose every attribute is text.
if TYPE_CHECKING:

    class Personal:
        """The personal fields of a signature, each as text; "" when it is absent."""

        def __init__(self, **fields: str) -> None: ...
        def __getattr__(self, name: str) -> str: ...

else:
    Personal = dataclasses.make_dataclass(
        "Personal",
        # A record without an address is nobody's.
        [
            (name, Annotated[str, Field(alias=short)], *([""] if name != "email" else []))
            for name, short in sorted(SHORT_NAMES.items(), key=lambda item: item[0] != "email")
        ],
        frozen=True,
        kw_only=True,
        slots=True,
    )

# These fields are joined in this order with U+001F, which no field can contain (`RecordCodec`): versions that know no
# others can read them. New fields are not added here.
_SEPARATOR = "\x1f"
_FORMER = (
    "given_name",
    "family_name",
    "email",
    "postal_code",
    "locale",
    "comment",
    "referral",
    "consents",
    "reference",
)
_LATER_OF_BODY = [name for name in _OF_BODY if name not in _FORMER]
# Nothing is unlisted: the record has the form of most.
LISTED = Unlisted()
_codec = RecordCodec(Personal, former_separator=_SEPARATOR, former_fields=_FORMER)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return to_json(value).decode() if value else ""


def texts_of(personal: Personal) -> dict[str, str]:
    """All personal fields by name."""
    return {name: getattr(personal, name) for name in SHORT_NAMES}


def identity(petition_id: UUID, signer: bytes) -> bytes:
    """What a sealed record belongs to: its row."""
    return b"signatures.sealed" + petition_id.bytes + signer


def seal(ring: KeyRing, petition_id: UUID, signer: bytes, personal: Personal) -> bytes:
    """The personal fields, sealed for this signature's row."""
    return _codec.seal(ring, personal, identity(petition_id, signer))


def seal_body(
    ring: KeyRing,
    petition_id: UUID,
    signer: bytes,
    body: SignatureBody,
    reference: str = "",
    unlisted: Unlisted = LISTED,
) -> bytes:
    """The sealed fields of this body, as `seal` would write them, but in half the time: every signer waits for it."""
    texts = {name: _text(getattr(body, name)) for name in _OF_BODY} | {"reference": reference}
    if unlisted is not LISTED or any(texts[name] for name in _LATER_OF_BODY):
        return seal(ring, petition_id, signer, Personal(**texts, **unlisted._asdict()))
    joined = _SEPARATOR.join([texts[name] for name in _FORMER]).rstrip(_SEPARATOR)
    return ring.seal(_codec.padded_join(joined.encode()), identity(petition_id, signer))


def unseal(ring: KeyRing, petition_id: UUID, signer: bytes, sealed: bytes) -> Personal:
    """The personal fields of a row; SealBrokenError when they cannot be opened or read, for this row alone."""
    return _codec.open(ring, sealed, identity(petition_id, signer))


def reseal_without(name: str, ring: KeyRing, petition_id: UUID, signer: bytes, sealed: bytes) -> bytes:
    """The same record without this field. Fields that a newer version has sealed are kept; SealBrokenError."""
    row = identity(petition_id, signer)
    plain = ring.open(sealed, row)
    without = Personal(**(texts_of(_codec.load(plain)) | {name: ""}))
    return ring.seal(_codec.dump_over(plain, without), row)


def write_receipt(ring: KeyRing, petition_id: UUID, signer: bytes, id_: UUID) -> str:
    """The receipt of one attempt, URL-safe, 83 characters."""
    return ring.write_token(signer + id_.bytes, b"receipt" + petition_id.bytes)


def write_proven_receipt(ring: KeyRing, petition_id: UUID, signer: bytes, id_: UUID) -> str:
    """The receipt that is answered to a confirmation: whoever holds it has read the person's mail."""
    return ring.write_token(signer + id_.bytes, b"proven receipt" + petition_id.bytes)


class Receipt(NamedTuple):
    """What a receipt stands for. `proven`: it came to whoever reads the person's mail."""

    signer: bytes
    id: UUID
    proven: bool


def read_receipt(ring: KeyRing, petition_id: UUID, receipt: str) -> Receipt:
    """A receipt of a signing, of a confirmation, or the token of a mailed link; SealBrokenError when it is none of
    this petition's."""
    for context, proven in ((b"receipt", False), (b"proven receipt", True)):
        try:
            plain = ring.read_token(receipt, context + petition_id.bytes, digest_at=0)
        except SealBrokenError:
            continue
        return Receipt(plain[:SIGNER_BYTES], UUID(bytes=plain[SIGNER_BYTES:_RECEIPT_BYTES]), proven)
    link = read_link(ring, receipt)
    if link.petition_id != petition_id:
        raise SealBrokenError
    return Receipt(link.signer, link.id, proven=True)


class Link(NamedTuple):
    """The content of a confirmation link, and when it was written (UTC, to the second)."""

    petition_id: UUID
    signer: bytes
    id: UUID
    written_at: datetime


def write_link(ring: KeyRing, petition_id: UUID, signer: bytes, id_: UUID, written_at: datetime) -> str:
    """The token of a confirmation link, URL-safe, 110 characters."""
    seconds = int(written_at.timestamp()).to_bytes(_SECONDS_BYTES)
    return ring.write_token(petition_id.bytes + signer + id_.bytes + seconds, b"confirmation")


def read_link(ring: KeyRing, token: str) -> Link:
    """The content of a confirmation link's token; SealBrokenError when we have not written it."""
    plain = ring.read_token(token, b"confirmation", digest_at=16)
    petition_id, signer, id_, seconds = plain[:16], plain[16:32], plain[32:48], plain[48:]
    written_at = datetime.fromtimestamp(int.from_bytes(seconds), UTC)
    return Link(UUID(bytes=petition_id), signer, UUID(bytes=id_), written_at)
