"""Exact tallies for staff, minute by minute: one snapshot of all dimensions, which all processes show alike.

Who could read exact tallies at each second would see each signature come: its country, source and group at once.
So staff see one snapshot of all dimensions together, stored by whoever asks first in a minute. It is replaced by one of
a later minute only when at least five signatures have come or gone since, or after an hour.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.petitions import queries as petitions
from app.signatures.models import MinuteTally, SignatureTally
from app.signatures.reading.breakdown import ordered
from app.signatures.reading.disclosure import SMALLEST_PUBLIC_KEY
from app.signatures.schemas import DimensionName, TallyRow, TallyView

_REPLACED_AFTER = timedelta(hours=1)
# Two who ask at once wait for each other at the first row, and the second changes nothing.
_TAKE = text("""
    INSERT INTO minute_tallies AS m (petition_id, dimension, counts, taken_at)
    SELECT :petition_id, dimension,
        coalesce(jsonb_object_agg(key, signature_count) FILTER (WHERE signature_count <> 0), '{}'), :minute
    FROM (
        SELECT dimension, key, sum(signature_count)::bigint AS signature_count
        FROM signature_tallies WHERE petition_id = :petition_id GROUP BY dimension, key
    ) AS summed
    GROUP BY dimension ORDER BY dimension
    ON CONFLICT (petition_id, dimension) DO UPDATE SET counts = excluded.counts, taken_at = excluded.taken_at
    WHERE m.taken_at < excluded.taken_at
""")


class _Stored(NamedTuple):
    total: int
    counts: Mapping[str, int]
    taken_at: datetime


async def staff_view(session: AsyncSession, petition_id: UUID, by: DimensionName) -> TallyView:
    """The exact tally as of a minute; `as_of` says which."""
    minute = (await petitions.moment(session)).replace(second=0, microsecond=0)
    stored = await _stored(session, petition_id, by)
    if stored is None or await _is_due(session, petition_id, stored, minute):
        await session.execute(_TAKE, {"petition_id": petition_id, "minute": minute})
        stored = await _stored(session, petition_id, by)
    # Nobody has signed yet.
    stored = stored or _Stored(0, {}, minute)
    rows = [TallyRow(key=key or None, signature_count=counted) for key, counted in stored.counts.items()]
    return TallyView(by=by, total=stored.total, rows=ordered(rows, by), as_of=stored.taken_at)


async def _stored(session: AsyncSession, petition_id: UUID, by: DimensionName) -> _Stored | None:
    row = MinuteTally
    query = select(row.dimension, row.counts, row.taken_at)
    query = query.where(row.petition_id == petition_id, row.dimension.in_(("total", by)))
    found = {dimension: (counts, taken_at) for dimension, counts, taken_at in await session.execute(query)}
    if "total" not in found:
        return None
    total, taken_at = found["total"]
    return _Stored(total.get("", 0), found[by][0] if by in found else {}, taken_at)


async def _is_due(session: AsyncSession, petition_id: UUID, stored: _Stored, minute: datetime) -> bool:
    if stored.taken_at >= minute:
        return False
    if minute - stored.taken_at >= _REPLACED_AFTER:
        return True
    row = SignatureTally
    counted = select(func.coalesce(func.sum(row.signature_count), 0))
    total = await session.scalar(counted.where(row.petition_id == petition_id, row.dimension == "total"))
    return abs(int(total or 0) - stored.total) >= SMALLEST_PUBLIC_KEY
