"""Endpoints: where an organization is told, of what, and by which secret it knows that it is us.

An address has been looked at (`kit/targets.py`) before it comes here, outside of any transaction.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.fields import as_id
from app.kit.ids import uuid7
from app.kit.problems import Conflict, NotFound
from app.kit.sealing import KeyRing
from app.organizations.models import Organization
from app.partners.models import WebhookEndpoint, WebhookMessage
from app.partners.outbound.addressing import Secret, Whereabouts, new_secret, open_whereabouts, seal_whereabouts
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.message_types import TEST

MOST = 20
# What stands in the sealed part rather than in columns.
_SEALED = ("url", "contact", "contact_locale")


class WebhookEndpointNotFound(NotFound):
    """There is no such endpoint of this organization."""

    slug = "webhook-endpoint-not-found"


class TooManyEndpoints(Conflict):
    """This organization has as many endpoints as it can have."""

    slug = "too-many-endpoints"


class EndpointNotActive(Conflict):
    """The endpoint is paused or disabled; activate it first."""

    slug = "endpoint-not-active"


def of_organization(organization_id: UUID) -> Select[WebhookEndpoint]:
    """All endpoints of an organization."""
    return select(WebhookEndpoint).where(WebhookEndpoint.organization_id == organization_id)


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
    """Forget its failures; what waits for it is due at once."""
    endpoint.state_reason = endpoint.failing_since = endpoint.ordered_due_at = endpoint.mail_due_at = None
    endpoint.failure_count = 0
    waiting = update(WebhookMessage).where(WebhookMessage.endpoint_id == endpoint.id, WebhookMessage.state == "due")
    moment = now()
    await session.execute(waiting.where(WebhookMessage.due_at > moment).values(due_at=moment))


async def renew_secret(session: AsyncSession, ring: KeyRing, endpoint: WebhookEndpoint) -> Secret:
    """A new secret; the former signs beside it for 24 hours."""
    whereabouts = open_whereabouts(ring, endpoint.id, endpoint.sealed).renewed(now())
    endpoint.sealed = seal_whereabouts(ring, endpoint.id, whereabouts)
    await session.flush()
    return whereabouts.secrets[0]


async def test(session: AsyncSession, endpoint: WebhookEndpoint) -> WebhookMessage:
    """A message that says nothing but that it came; EndpointNotActive."""
    if endpoint.state != "active":
        raise EndpointNotActive
    moment = now()
    message = WebhookMessage(
        endpoint_id=endpoint.id,
        type=TEST,
        content={},
        created_at=moment,
        due_at=moment,
        retried_until=moment + LIFETIME,
    )
    session.add(message)
    await session.flush()
    return message


async def remove(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """The endpoint goes, with all it was told."""
    await session.delete(endpoint)
    await session.flush()
