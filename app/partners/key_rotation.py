"""Key rotation: the sealed columns of this room, and its keyed digests."""

from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.crypto.key_rotation import SealedColumn
from app.partners.sealing import answers_identity, attempts_identity, endpoints_identity, secrets_identity

WEBHOOK_SECRETS = SealedColumn("webhook_secrets", {"id": "uuid"}, "sealed", secrets_identity)
RECEIVED_WEBHOOKS = SealedColumn("received_webhooks", {"id": "uuid"}, "answer", answers_identity)
WEBHOOK_ENDPOINTS = SealedColumn("webhook_endpoints", {"id": "uuid"}, "sealed", endpoints_identity)
DELIVERY_ATTEMPTS = SealedColumn("delivery_attempts", {"id": "uuid"}, "answer", attempts_identity)

# So that a webhook that is posted again is still known.
DIGESTED_WEBHOOKS = DigestedTable("received_webhooks", {"id": "uuid"}, ["webhook_digest", "body_digest"])
