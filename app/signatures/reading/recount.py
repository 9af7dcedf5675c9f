"""Recount (`tally verify`): count every petition anew from its rows and compare with the tallies.

One scan of the rows answers all dimensions (GROUPING SETS). It runs in a snapshot, so it agrees while people sign.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.signatures.dimensions import DIMENSIONS, NAMES

_KEYS = ", ".join(f'{dimension.sql} AS "{dimension.name}"' for dimension in DIMENSIONS)
_SETS = ", ".join(f'("{name}")' for name in NAMES)
_CASES = " ".join(f"""WHEN grouping("{name}") = 0 THEN '{name}'""" for name in NAMES)
_CHOICE = " ".join(f"""WHEN grouping("{name}") = 0 THEN "{name}\"""" for name in NAMES)

_DIFFERENCES = text(f"""
    WITH counted AS (
        SELECT CASE {_CASES} END AS dimension, CASE {_CHOICE} END AS key, count(*) AS signature_count
        FROM (SELECT {_KEYS} FROM signatures WHERE petition_id = :petition_id AND state = 'confirmed') AS keyed
        GROUP BY GROUPING SETS ({_SETS})
    ), tallied AS (
        SELECT dimension, key, sum(signature_count) AS signature_count
        FROM signature_tallies WHERE petition_id = :petition_id GROUP BY dimension, key
    )
    SELECT dimension, key, coalesce(c.signature_count, 0) AS counted, coalesce(t.signature_count, 0) AS tallied
    FROM counted c FULL JOIN tallied t USING (dimension, key)
    WHERE coalesce(c.signature_count, 0) <> coalesce(t.signature_count, 0)
    ORDER BY dimension, key
""")
_PETITIONS = text("""
    SELECT p.id, p.slug, coalesce(sum(t.signature_count), 0)
    FROM petitions p LEFT JOIN signature_tallies t ON t.petition_id = p.id AND t.dimension = 'total'
    GROUP BY p.id, p.slug ORDER BY p.slug
""")


@dataclass(frozen=True, slots=True)
class Difference:
    """A tally that differs from its rows."""

    dimension: str
    key: str
    counted: int
    tallied: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One petition's recount."""

    petition_id: UUID
    slug: str
    signature_count: int
    differences: list[Difference]


async def differences(session: AsyncSession, petition_id: UUID) -> list[Difference]:
    """The tallies of a petition that differ from its rows; normally none."""
    rows = await session.execute(_DIFFERENCES, {"petition_id": petition_id})
    return [Difference(row[0], row[1], int(row[2]), int(row[3])) for row in rows]


async def recount(session: AsyncSession) -> AsyncIterator[Verdict]:
    """Every petition, one after the other. `session` must be a snapshot."""
    # A petition of many millions is scanned in minutes; the limit for ordinary statements does not fit.
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    for petition_id, slug, total in (await session.execute(_PETITIONS)).all():
        yield Verdict(petition_id, slug, int(total), await differences(session, petition_id))
