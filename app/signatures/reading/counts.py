"""Counts: a cache of petitions' totals that always includes this process's own commits (read your own writes).

A count is the sum of a petition's lanes, read at most once a second. Each batch that this process commits returns its
lane's new total, which replaces what was read of that lane. So a person who signs here and looks again sees the own
signature counted, a million readers cost one query a second, and no commit is remembered longer than until the next
read.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database
from app.signatures.models import SignatureTally


@dataclass(frozen=True, slots=True)
class _Parts:
    by_lane: dict[int, int]


class Counts:
    """The counts of one process: all lanes as last read, its own lanes as last committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parts: CoalescingReader[UUID, _Parts] = CoalescingReader(self._read)
        # By petition and lane: the lane's total, and when it was committed.
        self._since: defaultdict[UUID, dict[int, tuple[int, float]]] = defaultdict(dict)

    def committed(self, lane: int, totals: Mapping[UUID, int]) -> None:
        """A batch of this process has committed; `totals` are the moved petitions' totals in its lane."""
        noted_at = time.monotonic()
        for petition_id, total in totals.items():
            self._since[petition_id][lane] = (total, noted_at)

    def peek(self, petition_id: UUID) -> int | None:
        """The count without a query, or None when it was not read within the last second."""
        parts = self._parts.peek(petition_id)
        return None if parts is None else self._sum(petition_id, parts)

    async def get(self, petition_id: UUID) -> int:
        """The count: exact for this process's own signatures, at most a second old for others'."""
        parts = await self._parts.get(petition_id)
        return self._sum(petition_id, parts or _Parts({}))

    async def refresh(self, petition_id: UUID) -> int:
        """The count as of now, for the one poll that feeds the streams."""
        parts = await self._parts.refresh(petition_id)
        return self._sum(petition_id, parts or _Parts({}))

    def _sum(self, petition_id: UUID, parts: _Parts) -> int:
        since = self._since.get(petition_id)
        if not since:
            return sum(parts.by_lane.values())
        return sum((parts.by_lane | {lane: total for lane, (total, _) in since.items()}).values())

    async def _read(self, petition_ids: Sequence[UUID]) -> Mapping[UUID, _Parts]:
        began = time.monotonic()
        query = select(SignatureTally.petition_id, SignatureTally.lane, SignatureTally.signature_count).where(
            SignatureTally.petition_id.in_(petition_ids), SignatureTally.dimension == "total"
        )
        parts = {petition_id: _Parts({}) for petition_id in petition_ids}
        async with self._database.transaction() as session:
            for petition_id, lane, part in await session.execute(query):
                parts[petition_id].by_lane[lane] = part
        for petition_id in petition_ids:
            self._drop_older(petition_id, began)
        return parts

    def _drop_older(self, petition_id: UUID, began: float) -> None:
        """Forget what was committed before the read began: the read includes it."""
        since = self._since.pop(petition_id, {})
        if kept := {lane: noted for lane, noted in since.items() if noted[1] >= began}:
            self._since[petition_id] = kept
