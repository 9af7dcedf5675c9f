"""Milestones and goals, found afterwards by sweeping the tallies: the signing path never looks at them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.petitions.milestones import reach
from app.petitions.models import Petition, PetitionMilestone
from app.signatures.models import SignatureTally


async def mark_reached(session: AsyncSession) -> Sequence[UUID]:
    """Mark every milestone and goal that the count has reached; returns the petitions that had one.

    Only unreached ones are compared with the total, so a sweep over petitions at rest writes nothing.
    """
    # Correlated on purpose: one short index scan per petition, whatever the number of other tallies.
    total = (
        select(func.coalesce(func.sum(SignatureTally.signature_count), 0))
        .where(SignatureTally.petition_id == Petition.id, SignatureTally.dimension == "total")
        .scalar_subquery()
    )
    counted = select(Petition.id, total.label("signature_count")).where(Petition.state != "archived").subquery()
    awaits_milestone = (
        select(PetitionMilestone.threshold_count)
        .where(
            PetitionMilestone.petition_id == Petition.id,
            PetitionMilestone.reached_at.is_(None),
            PetitionMilestone.threshold_count <= counted.c.signature_count,
        )
        .exists()
    )
    goal_is_recorded = (
        select(PetitionMilestone.threshold_count)
        .where(
            PetitionMilestone.petition_id == Petition.id,
            PetitionMilestone.threshold_count == Petition.signature_goal,
            PetitionMilestone.reached_at.is_not(None),
        )
        .exists()
    )
    goal_reached = (counted.c.signature_count >= Petition.signature_goal) & (
        Petition.next_goal_automatic | ~goal_is_recorded
    )
    query = (
        select(Petition.id, counted.c.signature_count)
        .join(counted, counted.c.id == Petition.id)
        .where(or_(awaits_milestone, goal_reached))
    )
    reached = (await session.execute(query)).all()
    for petition_id, signature_count in reached:
        await reach(session, petition_id, int(signature_count), now())
    return [petition_id for petition_id, _ in reached]
