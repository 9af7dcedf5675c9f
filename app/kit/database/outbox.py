"""The transactional outbox: how a room tells rooms above it, which it must not know, what has happened.

It writes an outbox message in its own transaction: a message is never sent for what was rolled back, and never lost for
what was committed. A sweep of a room above consumes the messages, each in the transaction that acts on it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Identity, insert
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import this_second
from app.kit.database.session import Base


class OutboxMessage(Base):
    """A message about something that happened. `content` names things by their ids and holds nothing personal.

    With `organization_id` it is for that organization alone. The database gives the `number`: a message about an effect
    has a higher one than the message about its cause, whatever the publishers' clocks say.
    """

    __tablename__ = "outbox_messages"

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    type: Mapped[str]
    organization_id: Mapped[UUID | None]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(default=this_second)


class NewMessage(NamedTuple):
    """A message to be published; with an organization, to that one alone."""

    type: str
    content: Mapping[str, Any]
    organization_id: UUID | None = None


async def publish(session: AsyncSession, messages: Iterable[NewMessage]) -> None:
    """Write outbox messages in the caller's transaction, in this order; `content` gives ids and times as text."""
    moment = this_second()
    rows = [
        {"type": type_, "content": dict(content), "organization_id": to, "created_at": moment}
        for type_, content, to in messages
    ]
    if rows:
        await session.execute(insert(OutboxMessage), rows)
