"""Secrets by which an organization signs what it posts: made or brought, several live at once, ended at any moment.

A secret is shown once, when it is made, and stored sealed. When it is ended it is destroyed: nothing it signed will
ever be looked at again.
"""

import base64
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.ids import uuid7
from app.kit.logs import failure_of, log
from app.kit.problems import Conflict, NotFound
from app.kit.text.fields import as_id
from app.organizations.models import Organization, PendingAct
from app.organizations.pending_acts.service import DELAY, is_waited_for
from app.organizations.service import ExpiryPast
from app.partners.models import WebhookSecret
from app.partners.sealing import secrets_identity

# Of a Standard Webhooks secret: what stands before the base64 of the key.
PREFIX = "whsec_"
# The verb under which the end of the last one waits.
END_SECRET = "webhook_secret.end"  # noqa: S105 - a verb
# Each webhook is checked against every live one.
LIVE_LIMIT = 5
_KEY_BYTES = 32
# Otherwise a busy secret would write its row with every webhook.
_USE_NOTED_EVERY = timedelta(minutes=1)


class WebhookSecretNotFound(NotFound):
    """There is no such secret of this organization."""

    slug = "webhook-secret-not-found"


class TooManySecrets(Conflict):
    """Five secrets of this scheme are live already; end one first."""

    slug = "too-many-secrets"


class SecretExpiryPast(ExpiryPast):
    """A secret must expire in the future."""


class LiveSecret(NamedTuple):
    """A secret that is live at this moment."""

    id: UUID
    secret: str

    def __repr__(self) -> str:
        return f"LiveSecret(id={self.id})"


def key_of(secret: str) -> bytes:
    """The key of a secret of the Standard Webhooks: what its base64 stands for; ValueError when it is none."""
    if not secret.startswith(PREFIX):
        raise ValueError("must begin with whsec_")
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def new_secret(scheme: str) -> str:
    """A fresh secret of 256 random bits, as this scheme wants it: `whsec_` and base64, or URL-safe."""
    if scheme == "standard":
        return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    return secrets.token_urlsafe(_KEY_BYTES)


def secrets_of(organization_id: UUID) -> Select[WebhookSecret]:
    """All secrets of an organization, ended ones included."""
    return select(WebhookSecret).where(WebhookSecret.organization_id == organization_id)


def live(moment: datetime) -> ColumnElement[bool]:
    """Whether a secret is live at this moment."""
    unexpired = or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > moment)
    return and_(WebhookSecret.revoked_at.is_(None), unexpired)


def is_live(secret: WebhookSecret, moment: datetime) -> bool:
    """Whether this secret is live at this moment."""
    return secret.revoked_at is None and (secret.expires_at is None or secret.expires_at > moment)


async def add(
    session: AsyncSession,
    ring: KeyRing,
    organization: Organization,
    scheme: str,
    *,
    secret: str | None = None,
    label: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[WebhookSecret, str]:
    """A new secret, made unless one is brought, and its text; TooManySecrets, SecretExpiryPast."""
    moment = now()
    if expires_at is not None and expires_at <= moment:
        raise SecretExpiryPast
    await _check_room(session, organization.id, scheme, moment)
    text = secret or new_secret(scheme)
    added = WebhookSecret(organization_id=organization.id, scheme=scheme, label=label, expires_at=expires_at)
    added.id = uuid7()
    added.sealed = ring.seal(text.encode(), secrets_identity(added.id))
    session.add(added)
    await session.flush()
    return added, text


async def _check_room(session: AsyncSession, organization_id: UUID, scheme: str, moment: datetime) -> None:
    # Additions wait for each other: of two at once both would be the fifth.
    await _lock(session, organization_id)
    of_scheme = secrets_of(organization_id).where(WebhookSecret.scheme == scheme, live(moment))
    count = await session.scalar(select(func.count()).select_from(of_scheme.subquery()))
    if count is not None and count >= LIVE_LIMIT:
        raise TooManySecrets


async def _lock(session: AsyncSession, organization_id: UUID) -> None:
    """Let the changes of an organization's secrets wait for each other."""
    await session.execute(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )


async def find(session: AsyncSession, organization: Organization, ref: str) -> WebhookSecret:
    """A secret of this organization, locked; WebhookSecretNotFound."""
    # Of two that are ended at once neither would be the last.
    await _lock(session, organization.id)
    query = secrets_of(organization.id).where(WebhookSecret.id == as_id(ref)).with_for_update()
    found = await session.scalar(query)
    if found is None:
        raise WebhookSecretNotFound
    return found


async def is_last(session: AsyncSession, secret: WebhookSecret) -> bool:
    """Whether nothing in this scheme is taken from its organization without this secret, now or a day later.

    Another that expires within the day, or whose end waits, stands in for nothing.
    """
    moment = now()
    others = secrets_of(secret.organization_id).where(
        WebhookSecret.scheme == secret.scheme,
        WebhookSecret.id != secret.id,
        live(moment + DELAY),
        ~is_waited_for(END_SECRET, WebhookSecret.id),
    )
    return is_live(secret, moment) and await session.scalar(others.limit(1)) is None


async def revoke_waited(session: AsyncSession, act: PendingAct) -> None:
    """End the secret of an act that waited; WebhookSecretNotFound."""
    found = await session.get(WebhookSecret, act.object_id, with_for_update=True)
    if found is None:
        raise WebhookSecretNotFound
    await revoke(session, found)


async def revoke(session: AsyncSession, found: WebhookSecret) -> None:
    """End a secret at once and destroy it; harmless when it has ended already."""
    found.revoked_at = found.revoked_at or now()
    found.sealed = b""
    await session.flush()


async def live_secrets(session: AsyncSession, ring: KeyRing, organization_id: UUID, scheme: str) -> list[LiveSecret]:
    """The secrets of an organization that are live now, newest first. One that no key opens costs only itself."""
    query = select(WebhookSecret.id, WebhookSecret.sealed).where(
        WebhookSecret.organization_id == organization_id, WebhookSecret.scheme == scheme, live(now())
    )
    found: list[LiveSecret] = []
    for id_, sealed in await session.execute(query.order_by(WebhookSecret.id.desc())):
        try:
            found.append(LiveSecret(id_, ring.open(sealed, secrets_identity(id_)).decode()))
        except SealBrokenError as error:
            log.warning("a webhook secret opens with no key", secret=str(id_), **failure_of(error))
    return found


async def note_use(session: AsyncSession, secret_id: UUID) -> None:
    """Note that a secret was used just now, to the minute."""
    moment = now()
    column = WebhookSecret.last_used_at
    stale = or_(column.is_(None), column <= moment - _USE_NOTED_EVERY)
    await session.execute(update(WebhookSecret).where(WebhookSecret.id == secret_id, stale).values(last_used_at=moment))
