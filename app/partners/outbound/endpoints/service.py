"""Endpoints: where an organization is told, of what, and by which secret it knows that it is us.

An address has been looked at (`kit/webhooks/egress.py`) before it comes here, outside of any transaction.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.kit.problems import Conflict, NotFound
from app.kit.text.fields import as_id
from app.organizations.models import Organization
from app.partners.models import WebhookEndpoint, WebhookMessage
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.endpoints.sealed_config import (
    Secret,
    Whereabouts,
    new_secret,
    open_whereabouts,
    seal_whereabouts,
)
from app.partners.outbound.message_types.types import TEST

MOST = 20
# What stands in the sealed part rather than in columns.
_SEALED = ("url", "contact", "contact_locale")
# Within so long what has failed before is tried when an endpoint is activated, if it is more than a few.
_SPREAD = timedelta(minutes=1)
# Those whose order counts are due since they were made.
_TRY_ANEW = text("""
    UPDATE webhook_messages AS m SET attempt_count = 0,
        due_at = least(m.due_at, CAST(:now AS timestamptz) + n.place * CAST(:within AS interval) / n.count)
    FROM (
        SELECT id, row_number() OVER (ORDER BY due_at, id) - 1 AS place, greatest(count(*) OVER (), 1000) AS count
        FROM webhook_messages WHERE endpoint_id = :id AND state = 'due'
            AND (attempt_count > 0 OR due_at > :now)
    ) AS n WHERE m.id = n.id
""")


class WebhookEndpointNotFound(NotFound):
    """There is no such endpoint of this organization."""

    slug = "webhook-endpoint-not-found"


class TooManyEndpoints(Conflict):
    """This organization has as many endpoints as it can have."""

    slug = "too-many-endpoints"


class EndpointNotActive(Conflict):
    """The endpoint is paused or disabled; activate it first."""

    slug = "endpoint-not-active"


def require_active(endpoint: WebhookEndpoint) -> None:
    """What is to be sent at once needs an endpoint that is sent to; EndpointNotActive."""
    if endpoint.state != "active":
        raise EndpointNotActive


def of_organization(organization_id: UUID) -> Select[WebhookEndpoint]:
    """All endpoints of an organization that were not removed."""
    own = WebhookEndpoint.organization_id == organization_id
    return select(WebhookEndpoint).where(own, WebhookEndpoint.removed_at.is_(None))


async def find(session: AsyncSession, organization_id: UUID, ref: str, *, locked: bool = False) -> WebhookEndpoint:
    """An organization's own endpoint; WebhookEndpointNotFound."""
    query = of_organization(organization_id).where(WebhookEndpoint.id == as_id(ref))
    found = await session.scalar(query.with_for_update(key_share=True) if locked else query)
    if found is None:
        raise WebhookEndpointNotFound
    return found


async def create(
    session: AsyncSession,
    ring: KeyRing,
    organization: Organization,
    *,
    url: str,
    types: Collection[str],
    label: str | None = None,
    contact: str | None = None,
    contact_locale: str | None = None,
) -> tuple[WebhookEndpoint, Whereabouts]:
    """A new endpoint, and what is sealed of it, its first secret included; TooManyEndpoints."""
    # Two that are made at the same moment are counted one after the other.
    locked = select(Organization.id).where(Organization.id == organization.id).with_for_update(key_share=True)
    await session.execute(locked)
    counted = of_organization(organization.id).with_only_columns(func.count())
    if (await session.scalar(counted) or 0) >= MOST:
        raise TooManyEndpoints
    id_, whereabouts = uuid7(), Whereabouts(url, (new_secret(),), contact, contact_locale)
    endpoint = WebhookEndpoint(
        id=id_,
        organization_id=organization.id,
        sealed=seal_whereabouts(ring, id_, whereabouts),
        label=label,
        types=sorted(types),
    )
    session.add(endpoint)
    await session.flush()
    return endpoint, whereabouts


async def change(
    session: AsyncSession, ring: KeyRing, endpoint: WebhookEndpoint, changes: dict[str, Any]
) -> Whereabouts:
    """Change what is named, and give what is sealed of it then. To activate an endpoint is to begin anew with it."""
    whereabouts = open_whereabouts(ring, endpoint.id, endpoint.sealed)
    sealed = {name: changes.pop(name) for name in _SEALED if name in changes}
    if sealed:
        whereabouts = whereabouts._replace(**sealed)
        endpoint.sealed = seal_whereabouts(ring, endpoint.id, whereabouts)
    if "types" in changes:
        changes["types"] = sorted(changes["types"])
    for name, value in changes.items():
        setattr(endpoint, name, value)
    if changes.get("state") == "active":
        await _begin_anew(session, endpoint)
    elif "state" in changes:
        endpoint.state_reason = "by_hand"
    await session.flush()
    return whereabouts


async def _begin_anew(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """Forget its failures; what waits for it is due, what waits to be tried again within a minute.

    That it is tried for another three days its own row says: what was never tried, which may be very much, stays as it
    is.
    """
    endpoint.state_reason = endpoint.failing_since = endpoint.ordered_due_at = endpoint.mail_due_at = None
    endpoint.failure_count, endpoint.activated_at = 0, now()
    values = {"id": endpoint.id, "now": endpoint.activated_at, "within": _SPREAD}
    await session.execute(_TRY_ANEW, values)


async def renew_secret(session: AsyncSession, ring: KeyRing, endpoint: WebhookEndpoint) -> Secret:
    """A new secret; the former signs beside it for 24 hours."""
    whereabouts = open_whereabouts(ring, endpoint.id, endpoint.sealed).renewed(now())
    endpoint.sealed = seal_whereabouts(ring, endpoint.id, whereabouts)
    await session.flush()
    return whereabouts.secrets[0]


async def test(session: AsyncSession, endpoint: WebhookEndpoint) -> WebhookMessage:
    """A message that says nothing but that it came; EndpointNotActive."""
    require_active(endpoint)
    moment = now()
    message = WebhookMessage(
        endpoint_id=endpoint.id,
        type=TEST,
        ordered=False,
        content={},
        created_at=moment,
        due_at=moment,
        retried_until=moment + LIFETIME,
    )
    session.add(message)
    await session.flush()
    return message


async def remove(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """The endpoint is gone for everybody; what it was told goes with it as soon as it is cleared up (`cleanup.py`)."""
    endpoint.state, endpoint.removed_at = "disabled", now()
    await session.flush()
