"""The rows of webhooks that came in: who claims one, and what it was answered."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.partners.models import ReceivedWebhook


class Claimed(NamedTuple):
    """A webhook that is to be worked on by this runner."""

    id: UUID
    received_at: datetime
    runner: int


class Answered(NamedTuple):
    """A webhook that has its answer, sealed."""

    id: UUID
    body_digest: bytes
    sealed: bytes | None


async def claim(
    session: AsyncSession, organization_id: UUID, webhook_digest: bytes, body_digest: bytes, runner: int
) -> Claimed | None:
    """Claim a webhook that is new, or that was left by a runner who is gone; None when it is neither."""
    table = ReceivedWebhook
    new = insert(table).values(
        id=uuid7(),
        organization_id=organization_id,
        webhook_digest=webhook_digest,
        body_digest=body_digest,
        runner=runner,
        received_at=now(),
    )
    # A number that can be locked is nobody's any more. The lock ends with this transaction.
    left = or_(table.runner.is_(None), table.runner == runner, func.pg_try_advisory_xact_lock(table.runner))
    claiming = new.on_conflict_do_update(
        index_elements=[table.organization_id, table.webhook_digest],
        set_={"runner": runner},
        where=table.answered_at.is_(None) & (table.body_digest == body_digest) & left,
    )
    row = (await session.execute(claiming.returning(table.id, table.received_at))).one_or_none()
    return Claimed(row[0], row[1], runner) if row is not None else None


async def find(session: AsyncSession, organization_id: UUID, webhook_digest: bytes) -> Answered | None:
    """What is known of a webhook."""
    query = select(ReceivedWebhook.id, ReceivedWebhook.body_digest, ReceivedWebhook.answer).where(
        ReceivedWebhook.organization_id == organization_id, ReceivedWebhook.webhook_digest == webhook_digest
    )
    row = (await session.execute(query)).one_or_none()
    return Answered(*row) if row is not None else None


async def record(session: AsyncSession, id_: UUID, sealed: bytes) -> bytes:
    """Keep the sealed answer; the one that is kept, should another process have been first."""
    unanswered = (ReceivedWebhook.id == id_) & ReceivedWebhook.answered_at.is_(None)
    recording = update(ReceivedWebhook).where(unanswered).values(answer=sealed, answered_at=now(), runner=None)
    recorded = await session.scalar(recording.returning(ReceivedWebhook.id))
    kept = await session.scalar(select(ReceivedWebhook.answer).where(ReceivedWebhook.id == id_))
    return sealed if recorded is not None or kept is None else kept


async def release(session: AsyncSession, claimed: Claimed, *, forgotten: bool) -> None:
    """Leave a webhook without an answer to whoever claims it next; or forget it, its id is free then."""
    still = (
        ReceivedWebhook.id == claimed.id,
        ReceivedWebhook.runner == claimed.runner,
        ReceivedWebhook.answered_at.is_(None),
    )
    left = delete(ReceivedWebhook) if forgotten else update(ReceivedWebhook).values(runner=None)
    await session.execute(left.where(*still))
