"""Endpoints over HTTP, for the organization itself and for owners.

An address is looked up before the transaction begins: another's name server must not hold a connection of ours.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.clock import now
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Database, Session
from app.kit.text.fields import changed
from app.kit.webhooks.egress import EgressPolicy, SystemResolver, TargetUnresolvable
from app.organizations.models import Organization
from app.organizations.service import find as find_organization
from app.partners.dependencies import Acting, OwnOrganization
from app.partners.models import WebhookEndpoint
from app.partners.outbound.endpoints import service as endpoints
from app.partners.outbound.endpoints.schemas import (
    EndpointSecretView,
    NewWebhookEndpointView,
    WebhookEndpointBody,
    WebhookEndpointChanges,
    WebhookEndpointView,
    WebhookMessageView,
)
from app.partners.outbound.endpoints.sealed_config import FORMER, whereabouts_of
from app.people.dependencies import Ring, limiter_of

router = APIRouter(tags=["partners"])

# Seconds in which a host must have been resolved.
_PATIENCE = 5.0
# Each has somebody else's server called.
_TESTS = "30 per hour"
_ALL = "/v1/organizations/{organization}/webhook-endpoints"
_ONE = f"{_ALL}/{{endpoint}}"


def targets_of(request: Request) -> EgressPolicy:
    """Which addresses may be called, in this process."""
    state = request.app.state
    if not hasattr(state, "targets"):
        state.targets = EgressPolicy(SystemResolver(), loopback=state.settings.may_call_loopback)
    targets: EgressPolicy = state.targets
    return targets


Known = Annotated[EgressPolicy, Depends(targets_of)]


async def _look_at(targets: EgressPolicy, url: str) -> None:
    """TargetInvalid, TargetRefused, TargetUnresolvable."""
    target = targets.read(url)
    try:
        async with asyncio.timeout(_PATIENCE):
            await targets.addresses(target)
    except TimeoutError:
        raise TargetUnresolvable from None


async def _acted_for(request: Request, acting: Acting, organization: str) -> Organization:
    database: Database = request.app.state.database
    async with database.transaction() as session:
        return await find_organization(session, organization, acting)


@router.post(_ALL, status_code=201)
async def create_webhook_endpoint(
    acting: Acting,
    request: Request,
    ring: Ring,
    targets: Known,
    response: Response,
    organization: str,
    body: WebhookEndpointBody,
) -> NewWebhookEndpointView:
    """Be told of what happens: 20 endpoints at the most. This answer alone shows the secret that signs."""
    own = await _acted_for(request, acting, organization)
    await _look_at(targets, body.url)
    database: Database = request.app.state.database
    async with database.transaction() as session:
        endpoint, whereabouts = await endpoints.create(session, ring, own, **body.model_dump())
    response.headers["Cache-Control"] = "no-store"
    view = WebhookEndpointView.of(endpoint, whereabouts)
    return NewWebhookEndpointView(**view.model_dump(), secret=whereabouts.secrets[0].text)


@router.get(_ALL, response_model=Page[WebhookEndpointView])
async def list_webhook_endpoints(
    organization: OwnOrganization, session: Session, ring: Ring, paging: Annotated[Paging, Query()]
) -> dict[str, Any]:
    """An organization's endpoints."""

    def view(endpoint: WebhookEndpoint) -> WebhookEndpointView:
        return WebhookEndpointView.of(endpoint, whereabouts_of(ring, endpoint))

    return await page_of(session, endpoints.of_organization(organization.id), WebhookEndpoint.id, paging, view)


@router.get(_ONE)
async def show_webhook_endpoint(
    organization: OwnOrganization, session: Session, ring: Ring, endpoint: str
) -> WebhookEndpointView:
    """One endpoint."""
    found = await endpoints.find(session, organization.id, endpoint)
    return WebhookEndpointView.of(found, whereabouts_of(ring, found))


@router.patch(_ONE)
async def change_webhook_endpoint(
    acting: Acting,
    request: Request,
    ring: Ring,
    targets: Known,
    organization: str,
    endpoint: str,
    body: WebhookEndpointChanges,
) -> WebhookEndpointView:
    """Change an endpoint, pause it, or activate it again: what waits for it is sent then."""
    own, changes = await _acted_for(request, acting, organization), changed(body)
    if "url" in changes:
        await _look_at(targets, changes["url"])
    database: Database = request.app.state.database
    async with database.transaction() as session:
        found = await endpoints.find(session, own.id, endpoint, locked=True)
        return WebhookEndpointView.of(found, await endpoints.change(session, ring, found, changes))


@router.delete(_ONE, status_code=204)
async def delete_webhook_endpoint(organization: OwnOrganization, session: Session, endpoint: str) -> None:
    """End an endpoint. What it was told, and was to be told, goes with it, a little later if it is much."""
    await endpoints.remove(session, await endpoints.find(session, organization.id, endpoint, locked=True))


@router.post(f"{_ONE}/secrets", status_code=201)
async def renew_webhook_endpoint_secret(
    organization: OwnOrganization, session: Session, ring: Ring, response: Response, endpoint: str
) -> EndpointSecretView:
    """Make a new secret. For 24 hours messages are signed by the former one too, so that none is lost meanwhile."""
    found = await endpoints.find(session, organization.id, endpoint, locked=True)
    secret = await endpoints.renew_secret(session, ring, found)
    response.headers["Cache-Control"] = "no-store"
    return EndpointSecretView(secret=secret.text, former_until=now() + FORMER)


@router.post(f"{_ONE}/test", status_code=201)
async def test_webhook_endpoint(
    request: Request, organization: OwnOrganization, session: Session, endpoint: str
) -> WebhookMessageView:
    """Send the endpoint a `webhook.test` message, which says nothing but that it came; 30 an hour at the most."""
    found = await endpoints.find(session, organization.id, endpoint)
    if not await limiter_of(request).hit(_TESTS, "webhook-test", str(found.id)):
        raise TooManyRequests
    return WebhookMessageView.of(await endpoints.test(session, found), found)
