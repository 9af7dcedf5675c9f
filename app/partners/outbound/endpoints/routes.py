"""Endpoints over HTTP, for the organization itself and for owners.

An address is looked up before the session is used first: another's name server must not hold a connection of ours.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.clock import now
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.room_interface import services
from app.kit.text.fields import changed
from app.kit.webhooks.egress import EgressPolicy, TargetUnresolvable
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.audit.declaration import audited
from app.organizations.models import Organization
from app.organizations.pending_acts.responses import MAY_WAIT, Accepted
from app.organizations.pending_acts.service import Asked, ask
from app.organizations.service import find as find_organization
from app.partners.dependencies import Acting, OwnOrganization
from app.partners.models import WebhookEndpoint
from app.partners.outbound.endpoints import service as endpoints
from app.partners.outbound.endpoints.narrowing import taking
from app.partners.outbound.endpoints.schemas import (
    EndpointSecretView,
    NewWebhookEndpointView,
    WebhookEndpointBody,
    WebhookEndpointChanges,
    WebhookEndpointView,
    WebhookMessageView,
    schemas_for,
)
from app.partners.outbound.endpoints.sealed_config import FORMER, config_of
from app.people.dependencies import Ring, limiter_of

_ROLES = ("owner", "partner")
# Seconds in which a host must have been resolved.
_RESOLVE_TIMEOUT = 5.0
# Each test calls somebody else's server.
_TESTS = "30 per hour"
_ALL = "/v1/organizations/{organization}/webhook-endpoints"
_ONE = f"{_ALL}/{{endpoint}}"


def egress_policy(request: Request) -> EgressPolicy:
    """Which addresses may be called, in this process."""
    return services(request).of(EgressPolicy)


Egress = Annotated[EgressPolicy, Depends(egress_policy)]


async def _check_url(targets: EgressPolicy, url: str) -> None:
    """Refuse an address that must not be called; TargetInvalid, TargetRefused, TargetUnresolvable."""
    target = targets.read(url)
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT):
            await targets.addresses(target)
    except TimeoutError:
        raise TargetUnresolvable from None


async def _acted_for(request: Request, acting: Acting, organization: str) -> Organization:
    database = services(request).database
    async with database.transaction() as session:
        return await find_organization(session, organization, acting)


async def create_webhook_endpoint(
    acting: Acting,
    request: Request,
    ring: Ring,
    targets: Egress,
    response: Response,
    organization: str,
    body: WebhookEndpointBody,
    session: Session,
) -> NewWebhookEndpointView:
    """Be told of what happens: 20 endpoints at the most. This answer alone shows the secret that signs."""
    own = await _acted_for(request, acting, organization)
    await _check_url(targets, body.url)
    endpoint, config = await endpoints.create(session, ring, own, **body.model_dump())
    response.headers["Cache-Control"] = "no-store"
    view = WebhookEndpointView.of(endpoint, config)
    return NewWebhookEndpointView(**view.model_dump(), secret=config.secrets[0].text)


async def list_webhook_endpoints(
    organization: OwnOrganization, session: Session, ring: Ring, paging: Annotated[Paging, Query()]
) -> dict[str, Any]:
    """An organization's endpoints."""

    def view(endpoint: WebhookEndpoint) -> WebhookEndpointView:
        return WebhookEndpointView.of(endpoint, config_of(ring, endpoint))

    return await page_of(session, endpoints.of_organization(organization.id), WebhookEndpoint.id, paging, view)


async def show_webhook_endpoint(
    organization: OwnOrganization, session: Session, ring: Ring, endpoint: str
) -> WebhookEndpointView:
    """One endpoint."""
    found = await endpoints.find(session, organization.id, endpoint)
    return WebhookEndpointView.of(found, config_of(ring, found))


async def change_webhook_endpoint(
    acting: Acting,
    request: Request,
    ring: Ring,
    targets: Egress,
    organization: str,
    endpoint: str,
    body: WebhookEndpointChanges,
    session: Session,
) -> WebhookEndpointView:
    """Change an endpoint, pause it, or activate it again: what waits for it is sent then."""
    own, changes = await _acted_for(request, acting, organization), changed(body)
    if "url" in changes:
        await _check_url(targets, changes["url"])
    found = await endpoints.find(session, own.id, endpoint, locked=True)
    return WebhookEndpointView.of(found, await endpoints.change(session, ring, found, changes))


@audited("webhook_endpoint.end", param="endpoint")
async def delete_webhook_endpoint(
    acting: Acting, organization: OwnOrganization, session: Session, endpoint: str
) -> Response:
    """End an endpoint. What it was told, and was to be told, goes with it, a little later if it is much.

    Unless another is active, it waits a day, or for a second person's word.
    """
    # Of two that are ended at once neither would be the last.
    await endpoints.lock_all(session, organization.id)
    found = await endpoints.find(session, organization.id, endpoint, locked=True)
    if await endpoints.is_last(session, found):
        return Accepted(await ask(session, acting, Asked(endpoints.END_ENDPOINT, "webhook_endpoint", _ROLES, found.id)))
    await endpoints.remove(session, found)
    return Response(status_code=204)


@audited("webhook_endpoint.renew_secret", param="endpoint")
async def renew_webhook_endpoint_secret(
    organization: OwnOrganization, session: Session, ring: Ring, response: Response, endpoint: str
) -> EndpointSecretView:
    """Make a new secret. For 24 hours messages are signed by the former one too, so that none is lost meanwhile."""
    found = await endpoints.find(session, organization.id, endpoint, locked=True)
    secret = await endpoints.renew_secret(session, ring, found)
    response.headers["Cache-Control"] = "no-store"
    return EndpointSecretView(secret=secret.text, former_until=now() + FORMER)


@audited("webhook_endpoint.test", param="endpoint")
async def test_webhook_endpoint(
    request: Request, organization: OwnOrganization, session: Session, endpoint: str
) -> WebhookMessageView:
    """Send the endpoint a `webhook.test` message, which says nothing but that it came; 30 an hour at the most."""
    found = await endpoints.find(session, organization.id, endpoint)
    if not await limiter_of(request).hit(_TESTS, "webhook-test", str(found.id)):
        raise TooManyRequests
    return WebhookMessageView.of(await endpoints.test(session, found), found)


def endpoints_router(types: MessageTypes) -> APIRouter:
    """The routes; an endpoint can ask for those of these types that are subscribable."""
    router, schemas = APIRouter(tags=["partners"]), schemas_for(types)
    router.post(_ALL, status_code=201, response_model=schemas.new_view)(
        audited("webhook_endpoint.create")(taking(create_webhook_endpoint, body=schemas.body))
    )
    # `contact` is somebody's address.
    router.get(_ALL, response_model=Page[schemas.view])(  # type: ignore[name-defined]
        audited("webhook_endpoint.look", "organization", category="look")(list_webhook_endpoints)
    )
    router.get(_ONE, response_model=schemas.view)(
        audited("webhook_endpoint.look", param="endpoint", category="look")(show_webhook_endpoint)
    )
    router.patch(_ONE, response_model=schemas.view)(
        audited("webhook_endpoint.change", param="endpoint")(taking(change_webhook_endpoint, body=schemas.changes))
    )
    router.delete(_ONE, status_code=204, responses=MAY_WAIT)(delete_webhook_endpoint)
    router.post(f"{_ONE}/secrets", status_code=201)(renew_webhook_endpoint_secret)
    router.post(f"{_ONE}/test", status_code=201)(test_webhook_endpoint)
    return router
