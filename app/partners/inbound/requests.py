"""Idempotency records: the rows of webhooks that came in, who has claimed one, and what it was answered."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import this_second
from app.kit.database.ids import uuid7_of_second
from app.partners.models import ReceivedWebhook


class Claimed(NamedTuple):
    """A webhook that this process is to work on, claimed by the key of its lock."""

    id: UUID
    received_at: datetime
    lock_key: int


class Answered(NamedTuple):
    """A webhook that has its answer, sealed."""

    id: UUID
    body_digest: bytes
    sealed: bytes | None


async def claim(
    session: AsyncSession, organization_id: UUID, webhook_digest: bytes, body_digest: bytes, lock_key: int
) -> Claimed | None:
    """Claim a webhook that is new, or that was left by a process that is gone; None when it is neither."""
    table = ReceivedWebhook
    new = insert(table).values(
        id=uuid7_of_second(),
        organization_id=organization_id,
        webhook_digest=webhook_digest,
        body_digest=body_digest,
        claimed_by=lock_key,
        received_at=this_second(),
    )
    # A key that can be locked belongs to no living process. The lock ends with this transaction.
    free = func.pg_try_advisory_xact_lock(table.claimed_by)
    left = or_(table.claimed_by.is_(None), table.claimed_by == lock_key, free)
    claiming = new.on_conflict_do_update(
        index_elements=[table.organization_id, table.webhook_digest],
        set_={table.claimed_by.name: lock_key},
        where=table.answered_at.is_(None) & (table.body_digest == body_digest) & left,
    )
    row = (await session.execute(claiming.returning(table.id, table.received_at))).one_or_none()
    return Claimed(row[0], row[1], lock_key) if row is not None else None


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
    recording = (
        update(ReceivedWebhook).where(unanswered).values(answer=sealed, answered_at=this_second(), claimed_by=None)
    )
    recorded = await session.scalar(recording.returning(ReceivedWebhook.id))
    kept = await session.scalar(select(ReceivedWebhook.answer).where(ReceivedWebhook.id == id_))
    return sealed if recorded is not None or kept is None else kept


async def release(session: AsyncSession, claimed: Claimed, *, forgotten: bool) -> None:
    """Leave a webhook without an answer to whoever claims it next; or forget it, its id is free then."""
    still = (
        ReceivedWebhook.id == claimed.id,
        ReceivedWebhook.claimed_by == claimed.lock_key,
        ReceivedWebhook.answered_at.is_(None),
    )
    left = delete(ReceivedWebhook) if forgotten else update(ReceivedWebhook).values(claimed_by=None)
    await session.execute(left.where(*still))
