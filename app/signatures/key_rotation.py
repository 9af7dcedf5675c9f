"""Key rotation: the sealed columns of this room, and its keyed digests.

Rotation seals the same values under a newer key; it changes neither the state of a row nor any tally.
"""

from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.crypto.key_rotation import SealedColumn
from app.signatures.moderation import rules
from app.signatures.signing.sealing import identity

_SIGNATURE = {"petition_id": "uuid", "signer": "bytea"}
SIGNATURES = SealedColumn("signatures", _SIGNATURE, "sealed", identity)
INVALIDATIONS = SealedColumn("invalidations", {"id": "uuid"}, "sealed", rules.identity)

# The digests of client addresses have a salt of their day, and their addresses are nowhere: they stay as they are.
DIGESTED_SIGNATURES = DigestedTable("signatures", _SIGNATURE, ["signer"], ["domain_digest"], {"sealed": identity})
