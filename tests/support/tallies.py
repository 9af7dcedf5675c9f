"""Proof that all is counted: rows, totals, dimensions and a recount are of one mind."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.session import Database
from app.signatures.dimensions import NAMES
from app.signatures.reading.recount import differences, recount
from tests.support.databases import run


async def dump_signatures(database: Database) -> list[Any]:
    """Every signature and every tally as they stand."""
    signatures = await run(database, "SELECT * FROM signatures ORDER BY petition_id, signer")
    return [*signatures, *await run(database, "SELECT * FROM signature_tallies ORDER BY 1, 2, 3, 4")]


async def exact_count(session: AsyncSession, petition_id: UUID) -> int:
    """The petition's count, once it is shown that its rows, its total and each dimension are of one mind."""
    values = {"petition_id": petition_id}
    sums = await session.execute(
        text(
            "SELECT dimension, sum(signature_count) FROM signature_tallies WHERE petition_id = :petition_id GROUP BY 1"
        ),
        values,
    )
    of = {dimension: int(summed) for dimension, summed in sums}
    rows = text("SELECT count(*) FROM signatures WHERE petition_id = :petition_id AND state = 'confirmed'")
    count = int((await session.execute(rows, values)).scalar_one())
    assert {of.get(dimension, 0) for dimension in NAMES} == {count}
    assert await differences(session, petition_id) == []
    return count


async def exact_counts(database: Database) -> dict[str, int]:
    """The count of every petition by its slug, proven; what `tally verify` says is the same."""
    counts = {}
    async with database.snapshot() as session:
        async for verdict in recount(session):
            assert verdict.differences == []
            counts[verdict.slug] = await exact_count(session, verdict.petition_id)
            assert verdict.signature_count == counts[verdict.slug]
    return counts
