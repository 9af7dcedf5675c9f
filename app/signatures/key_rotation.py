"""Key rotation: the sealed columns of this room, and its keyed digests.

Rotation seals the same values under a newer key; it changes neither the state of a row nor any tally.
"""

from uuid import UUID

from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.crypto.key_rotation import SealedColumn
from app.signatures.moderation import rules
from app.signatures.signing.sealing import identity

_SIGNATURE = {"petition_id": "uuid", "signer": "bytea"}
_ATTEMPT = _SIGNATURE | {"id": "uuid"}


def _attempt_identity(petition_id: UUID, signer: bytes, _: UUID) -> bytes:
    """That of the person's row, so that an attempt can come to stand as it is."""
    return identity(petition_id, signer)


SIGNATURES = SealedColumn("signatures", _SIGNATURE, "sealed", identity)
ATTEMPTS = SealedColumn("signature_attempts", _ATTEMPT, "sealed", _attempt_identity)
INVALIDATIONS = SealedColumn("invalidations", {"id": "uuid"}, "sealed", rules.identity)

# The digests of client addresses have a salt of their day, and their addresses are nowhere: they stay as they are.
DIGESTED = [
    DigestedTable("signatures", _SIGNATURE, ["signer"], ["domain_digest"], {"sealed": identity}),
    DigestedTable("signature_attempts", _ATTEMPT, ["signer"], ["domain_digest"], {"sealed": _attempt_identity}),
]
