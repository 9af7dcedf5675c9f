"""Sealed config of an endpoint: its address, the secrets that sign for it, and whom to write to."""

import base64
import json
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app.kit.crypto.sealed_records import RecordUnreadableError
from app.kit.crypto.sealing import KeyRing, SealBrokenError, padded
from app.kit.logs import failure_of, log
from app.partners.models import WebhookEndpoint
from app.partners.sealing import endpoints_identity

# As Standard Webhooks writes a secret.
PREFIX = "whsec_"
_SECRET_BYTES = 32
# A former secret signs for so long beside the one that has replaced it.
FORMER = timedelta(hours=24)
# Each adds a signature to every message.
_MOST_SECRETS = 5


class Secret(NamedTuple):
    """A secret as its owner was shown it, and until when it signs; None: until it is replaced."""

    text: str
    until: datetime | None = None

    def __repr__(self) -> str:
        return "Secret()"

    @property
    def key(self) -> bytes:
        return base64.b64decode(self.text.removeprefix(PREFIX))


class EndpointConfig(NamedTuple):
    """The config of an endpoint, sealed in its row; secrets newest first."""

    url: str
    secrets: tuple[Secret, ...]
    contact: str | None
    contact_locale: str | None = None

    def __repr__(self) -> str:
        return "EndpointConfig()"

    def keys(self, moment: datetime) -> list[bytes]:
        """The keys that sign at this moment, newest first."""
        return [secret.key for secret in self.secrets if secret.until is None or secret.until > moment]

    def renewed(self, moment: datetime) -> "EndpointConfig":
        """With a new secret; the former ones sign beside it for a while."""
        former = [Secret(old.text, old.until or moment + FORMER) for old in self.secrets]
        live = [old for old in former if old.until is not None and old.until > moment]
        return self._replace(secrets=(new_secret(), *live[: _MOST_SECRETS - 1]))


def new_secret() -> Secret:
    """A fresh one, of 256 random bits."""
    return Secret(PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())


def seal_config(ring: KeyRing, endpoint_id: UUID, config: EndpointConfig, former: bytes = b"") -> bytes:
    """Sealed for the endpoint's row, in the place of `former`: what a newer version has said there is kept."""
    kept = json.loads(ring.open(former, endpoints_identity(endpoint_id))) if former else {}
    said = kept | {
        "url": config.url,
        "secrets": [[secret.text, secret.until and secret.until.isoformat()] for secret in config.secrets],
        "contact": config.contact,
        "contact_locale": config.contact_locale,
    }
    return ring.seal(padded(json.dumps(said).encode()), endpoints_identity(endpoint_id))


def open_config(ring: KeyRing, endpoint_id: UUID, sealed: bytes) -> EndpointConfig:
    """An endpoint's config; SealBrokenError."""
    plain = ring.open(sealed, endpoints_identity(endpoint_id))
    try:
        said = json.loads(plain)
        # Only the first two of a secret are known here: a newer version may say more of it.
        secrets_ = tuple(Secret(text, until and datetime.fromisoformat(until)) for text, until, *_ in said["secrets"])
        return EndpointConfig(said["url"], secrets_, said.get("contact"), said.get("contact_locale"))
    except (ValueError, TypeError, LookupError):
        # `from None`: what was raised may quote the address.
        raise RecordUnreadableError from None


def config_of(ring: KeyRing, endpoint: WebhookEndpoint) -> EndpointConfig:
    """An endpoint's config, to be shown; empty when no key opens it, so that its neighbours can be seen."""
    try:
        return open_config(ring, endpoint.id, endpoint.sealed)
    except SealBrokenError as error:
        log.error("endpoint cannot be opened", **failure_of(error))
        return EndpointConfig("", (), None)
