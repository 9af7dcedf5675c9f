"""Key rotation: the keyed digests of this room."""

from app.kit.crypto.digest_rotation import DigestedTable

# Whoever is to be erased, while that waits.
PENDING_ACTS = DigestedTable("pending_acts", {"id": "uuid"}, ["signer"])
