"""Tallies: sharded counters by dimension, changed in the transaction that changes the signatures.

The only code that writes tallies. The dimensions are in `dimensions.py`; the shard is the writer's lane (`lanes.py`).
"""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from app.kit.database.session import Connection
from app.signatures.dimensions import Alike, TallyKeys, alike, keys_of

_UPSERT = """
    INSERT INTO signature_tallies AS t (petition_id, dimension, key, lane, signature_count)
    SELECT $1, m.dimension, m.key, $2, m.delta
    FROM unnest($3::text[], $4::text[], $5::bigint[]) AS m (dimension, key, delta)
    ORDER BY m.dimension, m.key
    ON CONFLICT (petition_id, dimension, key, lane)
    DO UPDATE SET signature_count = t.signature_count + excluded.signature_count
    RETURNING t.petition_id, t.dimension, t.signature_count
"""


def deltas_of(changes: Iterable[tuple[TallyKeys, int]]) -> dict[tuple[str, str], int]:
    """The change of each tally; the total is always among them, even when its change is zero (see `insert.py`)."""
    changed: dict[Alike, int] = {}
    for keys, change in changes:
        like = alike(keys)
        changed[like] = changed.get(like, 0) + change
    deltas: Counter[tuple[str, str]] = Counter({("total", ""): 0})
    for like, change in changed.items():
        for key in keys_of(like):
            deltas[key] += change
    return deltas


async def apply_deltas(
    connection: Connection, lane: int, petition_ids: Iterable[UUID], changes: Iterable[tuple[UUID, TallyKeys, int]]
) -> dict[UUID, int]:
    """Add these changes to the tallies inside the caller's transaction; each petition's total in this lane.

    A petition without changes gets a change of zero: a second signing, and a receipt that opens nothing, write and
    flush like real ones, so that they take as long. Petitions and keys are locked in sorted order, so that two writers
    of one lane could wait, but never deadlock.
    """
    grouped: dict[UUID, list[tuple[TallyKeys, int]]] = {petition_id: [] for petition_id in petition_ids}
    for petition_id, keys, change in changes:
        grouped[petition_id].append((keys, change))
    arguments = []
    for petition_id in sorted(grouped):
        deltas = sorted(deltas_of(grouped[petition_id]).items())
        columns = [[d for (d, _), _ in deltas], [k for (_, k), _ in deltas], [delta for _, delta in deltas]]
        arguments.append((petition_id, lane, *columns))
    if not arguments:
        return {}
    rows = await connection.fetchmany(_UPSERT, arguments)
    return {row[0]: row[2] for row in rows if row[1] == "total"}
