"""What endpoints were sent, over HTTP: for the organization itself and for owners."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.audit.declaration import audited
from app.partners.dependencies import OwnOrganization
from app.partners.models import DeliveryAttempt, WebhookMessage
from app.partners.outbound.endpoints import messages
from app.partners.outbound.endpoints import service as endpoints
from app.partners.outbound.endpoints.narrowing import taking
from app.partners.outbound.endpoints.schemas import (
    DeliveryAttemptView,
    MessagePaging,
    WebhookMessageView,
    schemas_for,
)
from app.people.dependencies import Ring, limiter_of

# A day of failures may have made hundreds dead.
_REPLAYS = "300 per hour"
_ALL = "/v1/organizations/{organization}/webhook-endpoints/{endpoint}/messages"


async def list_webhook_messages(
    organization: OwnOrganization, session: Session, endpoint: str, paging: Annotated[MessagePaging, Query()]
) -> dict[str, Any]:
    """What an endpoint was sent in the last 30 days, and what waits to be."""
    found = await endpoints.find(session, organization.id, endpoint)

    def view(message: WebhookMessage) -> WebhookMessageView:
        return WebhookMessageView.of(message, found)

    query = messages.of_endpoint(found.id, paging.state, paging.type)
    return await page_of(session, query, WebhookMessage.id, paging, view)


@audited("delivery_attempts.look", "webhook_endpoint", param="endpoint", category="look")
async def list_delivery_attempts(
    organization: OwnOrganization,
    session: Session,
    ring: Ring,
    endpoint: str,
    message: str,
    paging: Annotated[Paging, Query()],
) -> dict[str, Any]:
    """Every attempt to deliver a message, and the first bytes of what came back."""
    found = await messages.find(session, await endpoints.find(session, organization.id, endpoint), message)

    def view(attempt: DeliveryAttempt) -> DeliveryAttemptView:
        return DeliveryAttemptView.of(attempt, messages.open_answer(ring, attempt))

    return await page_of(session, messages.attempts_of(found), DeliveryAttempt.id, paging, view)


@audited("webhook_message.replay", param="message")
async def replay_webhook_message(
    request: Request, organization: OwnOrganization, session: Session, endpoint: str, message: str
) -> WebhookMessageView:
    """Send a message again at once, whatever has become of it: the same `webhook-id`, and three days anew.

    An endpoint can have 300 an hour.
    """
    found = await endpoints.find(session, organization.id, endpoint, locked=True)
    if not await limiter_of(request).hit(_REPLAYS, "webhook-replay", str(found.id)):
        raise TooManyRequests
    replayed = await messages.replay(session, found, await messages.find(session, found, message))
    return WebhookMessageView.of(replayed, found)


def messages_router(types: MessageTypes) -> APIRouter:
    """The routes; messages can be listed by each of these types."""
    router, paging = APIRouter(tags=["partners"]), Annotated[schemas_for(types).paging, Query()]
    router.get(_ALL, response_model=Page[WebhookMessageView])(taking(list_webhook_messages, paging=paging))
    router.get(f"{_ALL}/{{message}}/attempts", response_model=Page[DeliveryAttemptView])(list_delivery_attempts)
    router.post(f"{_ALL}/{{message}}/replay")(replay_webhook_message)
    return router
