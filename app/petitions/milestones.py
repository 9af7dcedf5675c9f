"""Milestones: those that staff set, and marking those that a count reaches, goals among them.

A milestone that was reached is history and never changes.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import cycle
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.petitions import queries
from app.petitions.models import Petition, PetitionMilestone
from app.petitions.outbox import publish_milestones
from app.petitions.schemas import MilestoneBody
from app.petitions.service import lock

_FIRST_GOAL = 100


async def replace(session: AsyncSession, ref: str, milestones: Sequence[MilestoneBody]) -> Petition:
    """Replace the unreached milestones by these; counts already reached are left out. PetitionNotFound."""
    petition = await lock(session, ref)
    petition.updated_at = now()
    unreached = (PetitionMilestone.petition_id == petition.id, PetitionMilestone.reached_at.is_(None))
    await session.execute(delete(PetitionMilestone).where(*unreached), execution_options={"synchronize_session": False})
    rows = [
        {"petition_id": petition.id, "threshold_count": milestone.signature_count, "label": milestone.label}
        for milestone in milestones
    ]
    if rows:
        await session.execute(insert(PetitionMilestone).values(rows).on_conflict_do_nothing())
    return petition


def next_goal(count: int) -> int:
    """The next goal above this count: 100, 200, 500, 1,000, 2,000, 5,000, 10,000, and so on."""
    goal = _FIRST_GOAL
    # The steps are x2, x2.5 and x2, again and again.
    for numerator, denominator in cycle(((2, 1), (5, 2), (2, 1))):
        if goal > count:
            break
        goal = goal * numerator // denominator
    return goal


async def reach(session: AsyncSession, petition_id: UUID, count: int, at: datetime) -> Sequence[int]:
    """Mark what this count reaches, goal included, and raise the goal; returns the thresholds newly reached.

    Harmless to repeat. Locks the petition before its milestones, as `replace` does.
    """
    petition = await queries.lock_with_goal_reached(session, petition_id, count)
    if petition is not None:
        goal = {"petition_id": petition_id, "threshold_count": petition.signature_goal}
        await session.execute(insert(PetitionMilestone).values(goal).on_conflict_do_nothing())
        if petition.next_goal_automatic:
            petition.signature_goal = next_goal(count)
    statement = (
        update(PetitionMilestone)
        .where(
            PetitionMilestone.petition_id == petition_id,
            PetitionMilestone.threshold_count <= count,
            PetitionMilestone.reached_at.is_(None),
        )
        .values(reached_at=at, reached_signature_count=count)
        .returning(PetitionMilestone.threshold_count)
    )
    reached = sorted(await session.scalars(statement, execution_options={"synchronize_session": False}))
    await session.flush()
    await publish_milestones(session, petition_id, reached, count, at)
    return reached
