"""What this room keeps sealed, for whoever brings it under a newer key.

The values of a row are replaced by the same ones, sealed anew: neither its state nor any tally is touched.
"""

from uuid import UUID

from app.kit.crypto.key_rotation import SealedColumn
from app.signatures.moderation import rules


def _identity(petition_id: UUID, signer: bytes) -> bytes:
    # As in `sealing.py`.
    return b"signatures.sealed" + petition_id.bytes + signer


SIGNATURES = SealedColumn("signatures", {"petition_id": "uuid", "signer": "bytea"}, "sealed", _identity)
INVALIDATIONS = SealedColumn("invalidations", {"id": "uuid"}, "sealed", rules.identity)
