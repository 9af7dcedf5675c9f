"""Public breakdowns: the one way by which the public is told how a petition's signatures are distributed.

Where all signatures are proven, the tallies of this moment with small keys folded. Where some may be unproven, what was
published at the last hour (`published.py`).
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database
from app.petitions.models import Petition
from app.petitions.queries import TAKES_UNPROVEN
from app.signatures.reading.breakdown import break_down, fold
from app.signatures.reading.published import published_view
from app.signatures.schemas import DimensionName, TallyView

Breakdowns = CoalescingReader[tuple[UUID, DimensionName], TallyView]


def open_breakdowns(database: Database) -> Breakdowns:
    """Public breakdowns, at most five seconds old; one read however many ask."""

    async def read(asked: Sequence[tuple[UUID, DimensionName]]) -> Mapping[tuple[UUID, DimensionName], TallyView]:
        async with database.transaction() as session:
            unproven = await _unproven(session, {id_ for id_, _ in asked})
            return {
                (id_, by): await published_view(session, id_, by)
                if id_ in unproven
                else fold(await break_down(session, id_, by))
                for id_, by in asked
            }

    return CoalescingReader(read, seconds=5.0)


async def _unproven(session: AsyncSession, petition_ids: set[UUID]) -> set[UUID]:
    """Those that the database says to take unproven signatures: a cache could be a second late."""
    return set(await session.scalars(select(Petition.id).where(Petition.id.in_(petition_ids), TAKES_UNPROVEN)))
