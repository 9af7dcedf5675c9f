"""An endpoint's messages: their attempts, and replaying one."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import failure_of, log
from app.kit.problems import NotFound
from app.kit.text.fields import as_id
from app.partners.models import DeliveryAttempt, WebhookEndpoint, WebhookMessage
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.endpoints.service import require_active
from app.partners.sealing import attempts_identity


class WebhookMessageNotFound(NotFound):
    """There is no such message of this endpoint."""

    slug = "webhook-message-not-found"


def of_endpoint(endpoint_id: UUID, state: str | None = None, type_: str | None = None) -> Select[WebhookMessage]:
    """An endpoint's messages, all of them or those of one state or type."""
    query = select(WebhookMessage).where(WebhookMessage.endpoint_id == endpoint_id)
    if state is not None:
        query = query.where(WebhookMessage.state == state)
    return query if type_ is None else query.where(WebhookMessage.type == type_)


async def find(session: AsyncSession, endpoint: WebhookEndpoint, ref: str) -> WebhookMessage:
    """An endpoint's own message; WebhookMessageNotFound."""
    id_ = as_id(ref.removeprefix("msg_"))
    found = await session.scalar(of_endpoint(endpoint.id).where(WebhookMessage.id == id_))
    if found is None:
        raise WebhookMessageNotFound
    return found


def attempts_of(message: WebhookMessage) -> Select[DeliveryAttempt]:
    """All attempts to deliver a message."""
    return select(DeliveryAttempt).where(DeliveryAttempt.message_id == message.id)


def open_answer(ring: KeyRing, attempt: DeliveryAttempt) -> bytes:
    """The first bytes of what came back; none when no key opens them."""
    try:
        return ring.open(attempt.answer, attempts_identity(attempt.id))
    except SealBrokenError as error:
        log.error("answer cannot be opened", **failure_of(error))
        return b""


async def replay(session: AsyncSession, endpoint: WebhookEndpoint, message: WebhookMessage) -> WebhookMessage:
    """Send a message again at once, whatever has become of it, under the same id and for another three days.

    EndpointNotActive. The endpoint is locked: where order is kept, what waits is tried at once as well.
    """
    require_active(endpoint)
    moment = now()
    message.state, message.due_at, message.retried_until = "due", moment, moment + LIFETIME
    message.attempt_count, message.delivered_at = 0, None
    if message.ordered:
        endpoint.ordered_due_at = None
    await session.flush()
    return message
