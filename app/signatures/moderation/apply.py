"""Carrying invalidations out: one slice in one transaction, together with how far it came.

So whoever is killed goes on where the last commit was, and two workers never do the same slice. A signature that was
given in time may be committed after its slice was done: when all are done the whole is looked over, without a lock,
and if anything is left it begins anew.

To apply one its rule must be opened. One that no key opens is passed over, and holds up nothing else; it can be undone.
"""

from typing import Any
from uuid import UUID

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import committing
from app.signatures.engine import chunks
from app.signatures.engine.chunks import INVALIDATES, RULE_SQL, Rule, Sliced
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import Unreadable
from app.signatures.moderation import rules

_TO_DO = "(state = 'undoing' OR state = 'applying' AND id <> ALL ({passed_over}))"
_UNDER_WAY = f"SELECT * FROM invalidations WHERE {_TO_DO.format(passed_over='$1::uuid[]')}"
_NEXT = f"{_UNDER_WAY} AND slice < slice_count ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
_ADVANCE = """
    UPDATE invalidations SET slice = slice + 1, updated_at = now(),
        invalidated_count = invalidated_count + CASE state WHEN 'applying' THEN $2::bigint ELSE 0 END,
        restored_count = restored_count + CASE state WHEN 'undoing' THEN $2::bigint ELSE 0 END
    WHERE id = $1
"""
_DONE = f"{_UNDER_WAY} AND slice >= slice_count ORDER BY id LIMIT 1"
_LEFT_TO_INVALIDATE = f"""
    SELECT count(*) FROM signatures o
    WHERE o.petition_id = $1 AND {INVALIDATES} AND {RULE_SQL.format(n=[f"${number}" for number in range(2, 11)])}
"""
_LEFT_TO_RESTORE = """
    SELECT count(*) FROM signatures o
    WHERE o.petition_id = $1 AND o.state = 'invalidated' AND o.invalidation_id = $2
"""
# Unless somebody has turned it round, or settled it, while the whole was looked over.
_SETTLE = """
    UPDATE invalidations SET updated_at = now(), slice = CASE WHEN $3 THEN 0 ELSE slice END,
        state = CASE WHEN $3 THEN state WHEN state = 'applying' THEN 'applied' ELSE 'undone' END
    WHERE id = $1 AND state = $2 AND slice >= slice_count
"""
# Seconds for a look over a petition of hundreds of millions: it reads, and nobody waits for it.
_LOOK_TIMEOUT = 1800
_PATIENTLY = f"SET LOCAL statement_timeout = '{_LOOK_TIMEOUT}s'"
_ALONE = "SET LOCAL max_parallel_workers_per_gather = 0"
# Of those in `passed_over` none is due.
DUE = f"EXISTS (SELECT 1 FROM invalidations WHERE {_TO_DO.format(passed_over='CAST(:passed_over AS uuid[])')})"


class _RuleUnreadableError(Exception):
    """The rule of this invalidation cannot be opened."""

    def __init__(self, id_: UUID) -> None:
        super().__init__()
        self.id = id_


async def carry_on(lane: Lane, ring: KeyRing, unreadable: Unreadable) -> bool:
    """Settle what is done, or do the next slice of the oldest that nobody is at; False when there is none."""
    while True:
        try:
            return await _settle(lane, ring, unreadable) or await _do_slice(lane, ring, unreadable)
        except _RuleUnreadableError as found:
            unreadable.note(found.id)


async def _do_slice(lane: Lane, ring: KeyRing, unreadable: Unreadable) -> bool:
    async with committing(lane.connection):
        row = await lane.connection.fetchrow(_NEXT, unreadable.ids())
        if row is None:
            return False
        sliced = await _change(lane, ring, row)
        await lane.connection.execute(_ADVANCE, row["id"], sliced.changed)
    return True


async def _change(lane: Lane, ring: KeyRing, row: Any) -> Sliced:
    part = chunks.cut(row["petition_id"], row["slice"], row["slice_count"])
    if row["state"] == "undoing":
        return await chunks.restore(lane, part, row["id"])
    return await chunks.invalidate(lane, part, row["id"], _rule(ring, row))


def _rule(ring: KeyRing, row: Any) -> Rule:
    decided = rules.unseal(ring, row["id"], row["sealed"])
    if decided is None:
        raise _RuleUnreadableError(row["id"])
    return rules.rule_of(ring, decided, row["signed_before"])


async def _settle(lane: Lane, ring: KeyRing, unreadable: Unreadable) -> bool:
    """End an invalidation whose slices are done, or begin them anew when some signature was met by none."""
    row = await lane.connection.fetchrow(_DONE, unreadable.ids())
    if row is None:
        return False
    left = await _left(lane, ring, row)
    async with committing(lane.connection):
        await lane.connection.execute(_SETTLE, row["id"], row["state"], left > 0)
    return True


async def _left(lane: Lane, ring: KeyRing, row: Any) -> int:
    """How many signatures there are still to be changed."""
    undoing = row["state"] == "undoing"
    statement, values = (_LEFT_TO_RESTORE, (row["id"],)) if undoing else (_LEFT_TO_INVALIDATE, _rule(ring, row))
    async with committing(lane.connection):
        await lane.connection.execute(_PATIENTLY)
        await lane.connection.execute(_ALONE)
        left = await lane.connection.fetchval(statement, row["petition_id"], *values, timeout=_LOOK_TIMEOUT)
    return int(left)
