"""Webhook endpoints: where an organization is told, of what, and by which secret it knows that it is us.

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
from app.organizations.models import Organization, PendingAct
from app.organizations.pending_acts.service import is_waited_for
from app.partners.models import WebhookEndpoint, WebhookMessage
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.endpoints.sealed_config import (
    EndpointConfig,
    Secret,
    new_secret,
    open_config,
    seal_config,
)
from app.partners.outbound.message_types.types import TEST

MOST = 20
# The verb under which the end of the last one waits.
END_ENDPOINT = "webhook_endpoint.end"
# What stands in the sealed part rather than in columns.
_SEALED = ("url", "contact", "contact_locale")
# When an endpoint is activated, what has failed before is spread over so long, if it is more than a few.
_SPREAD = timedelta(minutes=1)
# Messages whose order is kept stay due since they were made.
_RETRY = text("""
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
    """EndpointNotActive when nothing is sent to this endpoint now."""
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


async def lock_all(session: AsyncSession, organization_id: UUID) -> None:
    """Let whoever adds or ends endpoints of an organization wait for each other."""
    await session.execute(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )


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
) -> tuple[WebhookEndpoint, EndpointConfig]:
    """A new endpoint and its sealed config, its first secret included; TooManyEndpoints."""
    # Creations wait for each other: of two at once both would be the last.
    await lock_all(session, organization.id)
    counted = of_organization(organization.id).with_only_columns(func.count())
    if (await session.scalar(counted) or 0) >= MOST:
        raise TooManyEndpoints
    id_, config = uuid7(), EndpointConfig(url, (new_secret(),), contact, contact_locale)
    endpoint = WebhookEndpoint(
        id=id_,
        organization_id=organization.id,
        sealed=seal_config(ring, id_, config),
        label=label,
        types=sorted(types),
    )
    session.add(endpoint)
    await session.flush()
    return endpoint, config


async def change(
    session: AsyncSession, ring: KeyRing, endpoint: WebhookEndpoint, changes: dict[str, Any]
) -> EndpointConfig:
    """Change what is named; its sealed config afterwards. Activating an endpoint resets its failures."""
    config = open_config(ring, endpoint.id, endpoint.sealed)
    sealed = {name: changes.pop(name) for name in _SEALED if name in changes}
    if sealed:
        config = config._replace(**sealed)
        endpoint.sealed = seal_config(ring, endpoint.id, config, endpoint.sealed)
    if "types" in changes:
        changes["types"] = sorted(changes["types"])
    for name, value in changes.items():
        setattr(endpoint, name, value)
    if changes.get("state") == "active":
        await _reset_failures(session, endpoint)
    elif "state" in changes:
        endpoint.state_reason = "by_hand"
    await session.flush()
    return config


async def _reset_failures(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """Forget its failures; what waits for it is due, and what waits to be tried again is due within a minute.

    Its own row says that all of it is tried for another three days: the rows of what was never tried, which may be very
    many, stay as they are.
    """
    endpoint.state_reason = endpoint.failing_since = endpoint.ordered_due_at = endpoint.mail_due_at = None
    endpoint.failure_count, endpoint.activated_at = 0, now()
    values = {"id": endpoint.id, "now": endpoint.activated_at, "within": _SPREAD}
    await session.execute(_RETRY, values)


async def renew_secret(session: AsyncSession, ring: KeyRing, endpoint: WebhookEndpoint) -> Secret:
    """A new secret; the former signs beside it for 24 hours."""
    config = open_config(ring, endpoint.id, endpoint.sealed).renewed(now())
    endpoint.sealed = seal_config(ring, endpoint.id, config, endpoint.sealed)
    await session.flush()
    return config.secrets[0]


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


async def is_last(session: AsyncSession, endpoint: WebhookEndpoint) -> bool:
    """Whether no other endpoint is active, and stays: its organization would be told of nothing any more.

    In whatever state this one is: what is paused keeps what happens meanwhile, and could be activated again.
    """
    others = of_organization(endpoint.organization_id).where(
        WebhookEndpoint.state == "active",
        WebhookEndpoint.id != endpoint.id,
        ~is_waited_for(END_ENDPOINT, WebhookEndpoint.id),
    )
    return await session.scalar(others.limit(1)) is None


async def remove_waited(session: AsyncSession, act: PendingAct) -> None:
    """Remove the endpoint of an act that waited; WebhookEndpointNotFound."""
    found = await session.get(WebhookEndpoint, act.object_id, with_for_update=True)
    if found is None or found.removed_at is not None:
        raise WebhookEndpointNotFound
    await remove(session, found)


async def remove(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
    """The endpoint is gone for everybody; what it was told goes with it as soon as it is cleared up (`cleanup.py`)."""
    endpoint.state, endpoint.removed_at = "disabled", now()
    await session.flush()
