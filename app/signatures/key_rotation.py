"""Key rotation: the sealed columns of this room.

Rotation seals the same values under a newer key; it changes neither the state of a row nor any tally.
"""

from app.kit.crypto.key_rotation import SealedColumn
from app.signatures.moderation import rules
from app.signatures.signing.sealing import identity

SIGNATURES = SealedColumn("signatures", {"petition_id": "uuid", "signer": "bytea"}, "sealed", identity)
INVALIDATIONS = SealedColumn("invalidations", {"id": "uuid"}, "sealed", rules.identity)
