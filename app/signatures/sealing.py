"""What is sealed with a signature, and the receipt that opens it to its owner.

The personal fields of one signature are joined and sealed as one value. A receipt is the sealed (signer, attempt) pair:
only a receipt of the attempt that won leads to a row. That of a second signing is as well-formed, and opens nothing.
"""

import base64
import binascii
from typing import NamedTuple
from uuid import UUID

from app.kit.sealing import SIGNER_BYTES, KeyRing, SealBrokenError

# U+001F, "unit separator": no field can contain it, control characters are refused.
_SEPARATOR = "\x1f"
_RECEIPT_BYTES = SIGNER_BYTES + 16


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
    sealed = ring.seal(signer + id_.bytes, b"receipt" + petition_id.bytes)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def read_receipt(ring: KeyRing, petition_id: UUID, receipt: str) -> tuple[bytes, UUID]:
    """The (signer, attempt) a receipt stands for; SealBrokenError when it is not one of this petition's."""
    try:
        sealed = base64.b64decode(receipt + "=" * (-len(receipt) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealBrokenError from None
    plain = ring.open(sealed, b"receipt" + petition_id.bytes)
    return plain[:SIGNER_BYTES], UUID(bytes=plain[SIGNER_BYTES:_RECEIPT_BYTES])
