"""Key rotation: the sealed columns of this room.

Rotation seals the same values under a newer key; it changes neither the state of a row nor any tally.
"""

from app.kit.crypto.key_rotation import SealedColumn
from app.signatures.moderation import rules
from app.signatures.signing.sealing import identity

SIGNATURES = SealedColumn("signatures", {"petition_id": "uuid", "signer": "bytea"}, "sealed", identity)
ATTEMPTS = SealedColumn(
    "signature_attempts",
    {"petition_id": "uuid", "signer": "bytea", "id": "uuid"},
    "sealed",
    lambda petition_id, signer, _: identity(petition_id, signer),
)
INVALIDATIONS = SealedColumn("invalidations", {"id": "uuid"}, "sealed", rules.identity)
