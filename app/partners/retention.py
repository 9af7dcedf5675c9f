"""Retention: webhooks that came in, and messages that were sent with their attempts, are deleted after 30 days."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.partners.models import ReceivedWebhook, WebhookMessage

BATCH = 500
# So long the same webhook gets the same answer, and what was sent can be looked at and replayed.
_KEPT = timedelta(days=30)


async def forget_webhooks(session: AsyncSession) -> Sequence[object]:
    """Delete up to `BATCH` of each that are older than 30 days; what was deleted.

    What an endpoint that has been paused for so long was to be told goes as well: it would be no news to anybody. What
    was replayed is new.
    """
    oldest = now() - _KEPT
    sent = (
        select(WebhookMessage.id)
        .where(WebhookMessage.created_at < oldest, WebhookMessage.due_at < oldest)
        .order_by(WebhookMessage.created_at)
    )
    came = select(ReceivedWebhook.id).where(ReceivedWebhook.received_at < oldest).order_by(ReceivedWebhook.received_at)
    gone = delete(WebhookMessage).where(WebhookMessage.id.in_(sent.limit(BATCH)))
    over = delete(ReceivedWebhook).where(ReceivedWebhook.id.in_(came.limit(BATCH)))
    forgotten = list(await session.scalars(gone.returning(WebhookMessage.id)))
    return forgotten + list(await session.scalars(over.returning(ReceivedWebhook.id)))
