"""Announcing: how a room tells what happened to rooms it must not know.

It writes an outbox message in its own transaction: what is rolled back was never said, what is committed is not lost. A
sweep of a room above takes the messages out, each in the transaction in which it does something about it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Identity, insert
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.session import Base


class OutboxMessage(Base):
    """Something that happened. `content` names things by their ids and holds nothing personal.

    With `organization_id` it is for that organization alone. The database gives the `number`: what happened because of
    something, or after it was committed, has a higher one, whatever the clocks of those who announce say.
    """

    __tablename__ = "outbox_messages"

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    type: Mapped[str]
    organization_id: Mapped[UUID | None]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(default=now)


class NewMessage(NamedTuple):
    """What to tell, and to which organization alone."""

    type: str
    content: Mapping[str, Any]
    organization_id: UUID | None = None


async def publish(session: AsyncSession, announcements: Iterable[NewMessage]) -> None:
    """Write outbox messages in the caller's transaction, in this order; `content` gives ids and times as text."""
    moment = now()
    rows = [
        {"type": type_, "content": dict(content), "organization_id": to, "created_at": moment}
        for type_, content, to in announcements
    ]
    if rows:
        await session.execute(insert(OutboxMessage), rows)
