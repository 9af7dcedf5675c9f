"""Applying and undoing invalidations, chunk by chunk: each chunk is one transaction, together with the progress.

So a worker that was killed goes on after the last commit, and two workers never do the same chunk. A signature that was
given in time may be committed after its chunk was done. So when all chunks are done, all rows are checked, without a
lock; if any is left, the invalidation begins anew.

To apply an invalidation its rule must be opened. One that no key opens is passed over and holds nothing else up; it can
still be undone.
"""

from typing import Any
from uuid import UUID

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import committing
from app.signatures.engine import chunks
from app.signatures.engine.chunks import INVALIDATES, ChunkResult, Rule
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import UnreadableRules
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
# Of attempts that stand, and of those that wait beside them.
_LEFT = """
    SELECT (SELECT count(*) FROM signatures o WHERE o.petition_id = $1 AND {condition})
        + (SELECT count(*) FROM signature_attempts o WHERE o.petition_id = $1 AND {condition} AND EXISTS (
            SELECT FROM signatures l WHERE l.petition_id = o.petition_id AND l.signer = o.signer
        ))
"""
_LEFT_TO_INVALIDATE = _LEFT.format(condition=f"{INVALIDATES} AND {rules.rule_sql(2)}")
_LEFT_TO_RESTORE = _LEFT.format(condition="o.state = 'invalidated' AND o.invalidation_id = $2")
# Does nothing if somebody has undone or settled it while its rows were being checked.
_SETTLE = """
    UPDATE invalidations SET updated_at = now(), slice = CASE WHEN $3 THEN 0 ELSE slice END,
        state = CASE WHEN $3 THEN state WHEN state = 'applying' THEN 'applied' ELSE 'undone' END
    WHERE id = $1 AND state = $2 AND slice >= slice_count
"""
# Seconds to check a petition of hundreds of millions: it only reads, and nobody waits for it.
_CHECK_TIMEOUT = 1800
_LONG_TIMEOUT = f"SET LOCAL statement_timeout = '{_CHECK_TIMEOUT}s'"
_ONE_PROCESS = "SET LOCAL max_parallel_workers_per_gather = 0"
# Whether any is due; those in `passed_over` are not.
DUE = f"EXISTS (SELECT 1 FROM invalidations WHERE {_TO_DO.format(passed_over='CAST(:passed_over AS uuid[])')})"


class _RuleUnreadableError(Exception):
    """The rule of this invalidation cannot be opened."""

    def __init__(self, id_: UUID) -> None:
        super().__init__()
        self.id = id_


async def apply_next(lane: Lane, ring: KeyRing, unreadable: UnreadableRules) -> bool:
    """Settle one whose chunks are done, or do the next chunk of the oldest that no other worker is doing; False when
    there is none."""
    while True:
        try:
            return await _settle(lane, ring, unreadable) or await _do_chunk(lane, ring, unreadable)
        except _RuleUnreadableError as found:
            unreadable.add(found.id)


async def _do_chunk(lane: Lane, ring: KeyRing, unreadable: UnreadableRules) -> bool:
    async with committing(lane.connection):
        row = await lane.connection.fetchrow(_NEXT, unreadable.ids())
        if row is None:
            return False
        result = await _change(lane, ring, row)
        await lane.connection.execute(_ADVANCE, row["id"], result.changed)
    return True


async def _change(lane: Lane, ring: KeyRing, row: Any) -> ChunkResult:
    chunk = chunks.chunk_at(row["petition_id"], row["slice"], row["slice_count"])
    if row["state"] == "undoing":
        return await chunks.restore(lane, chunk, row["id"])
    return await chunks.invalidate(lane, chunk, row["id"], _rule(ring, row))


def _rule(ring: KeyRing, row: Any) -> Rule:
    stored = rules.unseal(ring, row["id"], row["sealed"])
    if stored is None:
        raise _RuleUnreadableError(row["id"])
    return rules.rule_of(ring, stored, row["signed_before"])


async def _settle(lane: Lane, ring: KeyRing, unreadable: UnreadableRules) -> bool:
    """End an invalidation whose chunks are done; begin it anew if a signature came too late for its chunk."""
    row = await lane.connection.fetchrow(_DONE, unreadable.ids())
    if row is None:
        return False
    left = await _left(lane, ring, row)
    async with committing(lane.connection):
        await lane.connection.execute(_SETTLE, row["id"], row["state"], left > 0)
    return True


async def _left(lane: Lane, ring: KeyRing, row: Any) -> int:
    """How many attempts there are still to be changed."""
    undoing = row["state"] == "undoing"
    statement, values = (_LEFT_TO_RESTORE, (row["id"],)) if undoing else (_LEFT_TO_INVALIDATE, _rule(ring, row).values)
    async with committing(lane.connection):
        await lane.connection.execute(_LONG_TIMEOUT)
        await lane.connection.execute(_ONE_PROCESS)
        left = await lane.connection.fetchval(statement, row["petition_id"], *values, timeout=_CHECK_TIMEOUT)
    return int(left)
