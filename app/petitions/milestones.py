"""The milestones staff wish for. Those already reached are history and stay as they were."""

from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.petitions.models import Petition, PetitionMilestone
from app.petitions.schemas import MilestoneBody
from app.petitions.service import lock


async def replace(session: AsyncSession, ref: str, wished: Sequence[MilestoneBody]) -> Petition:
    """Put these in the place of the unreached ones; reached counts are passed over. PetitionNotFound."""
    petition = await lock(session, ref)
    petition.updated_at = now()
    unreached = (PetitionMilestone.petition_id == petition.id, PetitionMilestone.reached_at.is_(None))
    await session.execute(delete(PetitionMilestone).where(*unreached), execution_options={"synchronize_session": False})
    rows = [
        {"petition_id": petition.id, "threshold_count": wish.signature_count, "label": wish.label} for wish in wished
    ]
    if rows:
        await session.execute(insert(PetitionMilestone).values(rows).on_conflict_do_nothing())
    return petition
