"""What this room announces: that a petition has opened, has closed, or has reached a milestone.

What the public may not see is not announced: a petition that is not approved opens and closes in silence, and whoever
approves it announces it as it is then.

The clock opens and closes petitions too. What it has decided is written down by whoever changes the petition next or by
a sweep, whichever is first; and whoever writes it down announces it, so that it is said once.
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
    """A petition that the clock has brought from one state to another."""

    petition_id: UUID
    before: str
    after: str
    opens_at: datetime | None
    closes_at: datetime | None
    moderation: str


async def publish_published(session: AsyncSession, petition_id: UUID, at: datetime | None) -> None:
    """It takes signatures from this moment on."""
    await publish(session, [_about(PUBLISHED, petition_id, at)])


async def publish_closed(session: AsyncSession, petition_id: UUID, at: datetime | None) -> None:
    """It takes no more signatures from this moment on."""
    await publish(session, [_about(CLOSED, petition_id, at)])


async def publish_transitions(session: AsyncSession, turns: Iterable[Transition]) -> None:
    """What the clock has decided; both, of a draft that it has opened and closed before anybody looked."""
    said = []
    for turn in (turn for turn in turns if turn.moderation == "approved"):
        if turn.before == "draft" and turn.after != "draft":
            said.append(_about(PUBLISHED, turn.petition_id, turn.opens_at))
        if turn.before != turn.after == "closed":
            said.append(_about(CLOSED, turn.petition_id, turn.closes_at))
    await publish(session, said)


async def publish_milestones(
    session: AsyncSession, petition_id: UUID, thresholds: Iterable[int], count: int, at: datetime
) -> None:
    """These thresholds were reached by this count."""
    said = [
        _about(MILESTONE_REACHED, petition_id, at, threshold_count=threshold, signature_count=count)
        for threshold in thresholds
    ]
    await publish(session, said)


def _about(type_: str, petition_id: UUID, at: datetime | None, **more: int) -> NewMessage:
    when = at.isoformat() if at is not None else None
    return NewMessage(type_, {"petition_id": str(petition_id), "at": when, **more})
