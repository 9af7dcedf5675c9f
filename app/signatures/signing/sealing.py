"""What is sealed with a signature, and the tokens that open it to its owner: receipt and confirmation link.

The personal fields of one signature are joined and sealed as one value. A receipt is the sealed (signer, attempt) pair:
only that of the attempt that stands leads to a row. Any other is as well-formed, and opens nothing.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from app.kit.crypto.sealing import SIGNER_BYTES, KeyRing, SealBrokenError

# U+001F, "unit separator": no field can contain it, control characters are refused.
_SEPARATOR = "\x1f"
_RECEIPT_BYTES = SIGNER_BYTES + 16
# Seconds since 1970, until the year 36812.
_SECONDS_BYTES = 5


class Personal(NamedTuple):
    """The personal fields of a signature, in the order in which they are joined. New ones go to the end."""

    given_name: str
    family_name: str
    email: str
    postal_code: str = ""
    locale: str = ""
    comment: str = ""
    referral: str = ""
    consents: str = ""
    # A partner's own id of the signature.
    reference: str = ""


def seal(ring: KeyRing, petition_id: UUID, signer: bytes, personal: Personal) -> bytes:
    """The personal fields, sealed for this signature's row."""
    joined = _SEPARATOR.join(personal).rstrip(_SEPARATOR)
    return ring.seal(joined.encode(), b"signatures.sealed" + petition_id.bytes + signer)


def unseal(ring: KeyRing, petition_id: UUID, signer: bytes, sealed: bytes) -> Personal:
    """The personal fields of a row; SealBrokenError when they were sealed for another row or key ring."""
    plain = ring.open(sealed, b"signatures.sealed" + petition_id.bytes + signer)
    return Personal(*plain.decode().split(_SEPARATOR))


def write_receipt(ring: KeyRing, petition_id: UUID, signer: bytes, id_: UUID) -> str:
    """The receipt of one attempt, URL-safe, 83 characters."""
    return _spelt(ring.seal_token(signer + id_.bytes, b"receipt" + petition_id.bytes))


def read_receipt(ring: KeyRing, petition_id: UUID, receipt: str) -> tuple[bytes, UUID]:
    """The (signer, attempt) a receipt stands for; SealBrokenError when it is not one of this petition's."""
    plain = ring.open_token(_unspelt(receipt), b"receipt" + petition_id.bytes)
    return plain[:SIGNER_BYTES], UUID(bytes=plain[SIGNER_BYTES:_RECEIPT_BYTES])


class Link(NamedTuple):
    """What a confirmation link says, and when it was written (UTC, to the second)."""

    petition_id: UUID
    signer: bytes
    id: UUID
    written_at: datetime


def write_link(ring: KeyRing, petition_id: UUID, signer: bytes, id_: UUID, written_at: datetime) -> str:
    """The token of a confirmation link, URL-safe, 110 characters."""
    seconds = int(written_at.timestamp()).to_bytes(_SECONDS_BYTES)
    return _spelt(ring.seal_token(petition_id.bytes + signer + id_.bytes + seconds, b"confirmation"))


def read_link(ring: KeyRing, token: str) -> Link:
    """What the token of a confirmation link says; SealBrokenError when we have not written it."""
    plain = ring.open_token(_unspelt(token), b"confirmation")
    petition_id, signer, id_, seconds = plain[:16], plain[16:32], plain[32:48], plain[48:]
    written_at = datetime.fromtimestamp(int.from_bytes(seconds), UTC)
    return Link(UUID(bytes=petition_id), signer, UUID(bytes=id_), written_at)


def _spelt(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _unspelt(token: str) -> bytes:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealBrokenError from None
