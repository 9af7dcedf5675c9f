"""Tallies: every breakdown of a petition's signatures, moved in the transaction that moves the signatures.

The only code that writes tallies. A dimension is defined once, as the key of a row in Python and as the same key in
SQL for the recount; a test draws random rows and holds the two together.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from app.kit.database.session import Connection

PUBLIC = ("country", "hour")

# Each dimension in SQL, over a row of `signatures`. `total` has one key.
RECOUNT_KEYS = {
    "total": "''",
    "country": "country",
    "region": "CASE WHEN region = '' THEN '' ELSE country || '/' || region END",
    "hour": """to_char(signed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"')""",
    "source": "source",
    "group": "coalesce(group_id::text, '')",
    "event": "coalesce(event_id::text, '')",
    "country_day": "country || ' ' || to_char(signed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
DIMENSIONS = tuple(RECOUNT_KEYS)

_MOVE = """
    INSERT INTO signature_tallies AS t (petition_id, dimension, key, lane, signature_count)
    SELECT $1, m.dimension, m.key, $2, m.moved
    FROM unnest($3::text[], $4::text[], $5::bigint[]) AS m (dimension, key, moved)
    ORDER BY m.dimension, m.key
    ON CONFLICT (petition_id, dimension, key, lane)
    DO UPDATE SET signature_count = t.signature_count + excluded.signature_count
    RETURNING t.petition_id, t.dimension, t.signature_count
"""


class TallyKeys(NamedTuple):
    """What a signature is tallied by."""

    country: str
    region: str
    source: str
    group_id: UUID | None
    event_id: UUID | None
    signed_at: datetime


def keys_of(facets: TallyKeys) -> tuple[tuple[str, str], ...]:
    """The (dimension, key) pairs one signature counts under, one for each dimension."""
    country, region, source, group_id, event_id, signed_at = facets
    hour, day = _hour_and_day(_hours(signed_at))
    return (
        ("total", ""),
        ("country", country),
        ("region", f"{country}/{region}" if region else ""),
        ("hour", hour),
        ("source", source),
        ("group", str(group_id or "")),
        ("event", str(event_id or "")),
        ("country_day", f"{country} {day}"),
    )


def _hours(moment: datetime) -> int:
    return int(moment.timestamp()) // 3600


@lru_cache(maxsize=4096)
def _hour_and_day(hours_since_epoch: int) -> tuple[str, str]:
    moment = datetime.fromtimestamp(hours_since_epoch * 3600, UTC)
    return moment.strftime("%Y-%m-%dT%H:00:00Z"), moment.strftime("%Y-%m-%d")


def deltas_of(changes: Iterable[tuple[TallyKeys, int]]) -> dict[tuple[str, str], int]:
    """What each tally moves by; the total is always among them, be it by nought (see `insert.py`)."""
    alike: dict[tuple[object, ...], int] = {}
    examples: dict[tuple[object, ...], TallyKeys] = {}
    for facets, change in changes:
        # Most signatures of a batch differ in nothing but the second: their keys are worked out once.
        kind: tuple[object, ...] = (*facets[:5], _hours(facets.signed_at))
        alike[kind] = alike.get(kind, 0) + change
        examples[kind] = facets
    moves: Counter[tuple[str, str]] = Counter({("total", ""): 0})
    for kind, summed in alike.items():
        for key in keys_of(examples[kind]):
            moves[key] += summed
    return moves


async def apply_deltas(
    connection: Connection, lane: int, touched: Iterable[UUID], changes: Iterable[tuple[UUID, TallyKeys, int]]
) -> dict[UUID, int]:
    """Move the tallies by these changes inside the caller's transaction; each touched petition's total in this lane.

    Those of a petition that was only touched move by nought: a second signing, and a receipt that opens nothing,
    write and flush like the real ones, so they take as long. Petitions and keys are locked in sorted order, so that
    two writers of one lane could wait, but never deadlock.
    """
    grouped: dict[UUID, list[tuple[TallyKeys, int]]] = {petition_id: [] for petition_id in touched}
    for petition_id, facets, change in changes:
        grouped[petition_id].append((facets, change))
    arguments = []
    for petition_id in sorted(grouped):
        keys = sorted(deltas_of(grouped[petition_id]).items())
        columns = [[d for (d, _), _ in keys], [k for (_, k), _ in keys], [moved for _, moved in keys]]
        arguments.append((petition_id, lane, *columns))
    if not arguments:
        return {}
    rows = await connection.fetchmany(_MOVE, arguments)
    return {row[0]: row[2] for row in rows if row[1] == "total"}
