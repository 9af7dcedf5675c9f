"""Where an endpoint is, by which secrets it knows us, and whom to write to: what is sealed of it."""

import base64
import json
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import failure_of, log
from app.partners.models import WebhookEndpoint
from app.partners.sealing import endpoints_identity

# As Standard Webhooks writes a secret.
PREFIX = "whsec_"
_SECRET_BYTES = 32
# A secret that has been followed by another signs for so long, beside it.
FORMER = timedelta(hours=24)
# Of each message's signatures.
_MOST_SECRETS = 5


class Secret(NamedTuple):
    """A secret as its owner was shown it, and until when it signs; None: until another follows."""

    text: str
    until: datetime | None = None

    def __repr__(self) -> str:
        return "Secret()"

    @property
    def key(self) -> bytes:
        return base64.b64decode(self.text.removeprefix(PREFIX))


class Whereabouts(NamedTuple):
    """What is sealed of an endpoint; secrets newest first."""

    url: str
    secrets: tuple[Secret, ...]
    contact: str | None
    contact_locale: str | None = None

    def __repr__(self) -> str:
        return "Whereabouts()"

    def keys(self, moment: datetime) -> list[bytes]:
        """The keys that sign at this moment, newest first."""
        return [secret.key for secret in self.secrets if secret.until is None or secret.until > moment]

    def renewed(self, moment: datetime) -> "Whereabouts":
        """With a new secret, its former ones signing for a while."""
        former = [Secret(old.text, old.until or moment + FORMER) for old in self.secrets]
        live = [old for old in former if old.until is not None and old.until > moment]
        return self._replace(secrets=(new_secret(), *live[: _MOST_SECRETS - 1]))


def new_secret() -> Secret:
    """A fresh one, of 256 random bits."""
    return Secret(PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())


def seal_whereabouts(ring: KeyRing, endpoint_id: UUID, whereabouts: Whereabouts) -> bytes:
    """Sealed for the endpoint's row."""
    said = {
        "url": whereabouts.url,
        "secrets": [[secret.text, secret.until and secret.until.isoformat()] for secret in whereabouts.secrets],
        "contact": whereabouts.contact,
        "contact_locale": whereabouts.contact_locale,
    }
    return ring.seal(json.dumps(said).encode(), endpoints_identity(endpoint_id))


def open_whereabouts(ring: KeyRing, endpoint_id: UUID, sealed: bytes) -> Whereabouts:
    """An endpoint's whereabouts; SealBrokenError."""
    said = json.loads(ring.open(sealed, endpoints_identity(endpoint_id)))
    secrets_ = tuple(Secret(text, until and datetime.fromisoformat(until)) for text, until in said["secrets"])
    return Whereabouts(said["url"], secrets_, said["contact"], said["contact_locale"])


def whereabouts_of(ring: KeyRing, endpoint: WebhookEndpoint) -> Whereabouts:
    """An endpoint's whereabouts, to be looked at; empty when no key opens them, so that its neighbours can be seen."""
    try:
        return open_whereabouts(ring, endpoint.id, endpoint.sealed)
    except SealBrokenError as error:
        log.error("endpoint cannot be opened", **failure_of(error))
        return Whereabouts("", (), None)
