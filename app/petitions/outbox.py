"""Outbox messages of this room: a petition has opened, has closed, or has reached a milestone.

There is no message about a petition that the public may not see: one that is not approved opens and closes without; its
approval publishes the state that it has then.

The clock opens and closes petitions too. That is written to the row by the next change of the petition or by a sweep,
whichever comes first, and the message is published in the same transaction: so exactly once.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.outbox import NewMessage, publish

PUBLISHED = "petition.published"
CLOSED = "petition.closed"
MILESTONE_REACHED = "petition.milestone_reached"


class Transition(NamedTuple):
    """A change of state that the clock has made."""

    petition_id: UUID
    before: str
    after: str
    opens_at: datetime | None
    closes_at: datetime | None
    moderation: str


async def publish_published(session: AsyncSession, petition_id: UUID, at: datetime | None) -> None:
    """The petition takes signatures from this moment on."""
    await publish(session, [_message(PUBLISHED, petition_id, at)])


async def publish_closed(session: AsyncSession, petition_id: UUID, at: datetime | None) -> None:
    """The petition takes no more signatures from this moment on."""
    await publish(session, [_message(CLOSED, petition_id, at)])


async def publish_transitions(session: AsyncSession, transitions: Iterable[Transition]) -> None:
    """What the clock has changed. A draft that opened and closed before anybody wrote it down gets both messages."""
    messages = []
    for one in (one for one in transitions if one.moderation == "approved"):
        if one.before == "draft" and one.after != "draft":
            messages.append(_message(PUBLISHED, one.petition_id, one.opens_at))
        if one.before != one.after == "closed":
            messages.append(_message(CLOSED, one.petition_id, one.closes_at))
    await publish(session, messages)


async def publish_milestones(
    session: AsyncSession, petition_id: UUID, thresholds: Iterable[int], count: int, at: datetime
) -> None:
    """These thresholds were reached by this count."""
    messages = [
        _message(MILESTONE_REACHED, petition_id, at, threshold_count=threshold, signature_count=count)
        for threshold in thresholds
    ]
    await publish(session, messages)


def _message(type_: str, petition_id: UUID, at: datetime | None, **more: int) -> NewMessage:
    when = at.isoformat() if at is not None else None
    return NewMessage(type_, {"petition_id": str(petition_id), "at": when, **more})
