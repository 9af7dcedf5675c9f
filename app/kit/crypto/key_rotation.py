"""Re-sealing: every value of a sealed column is brought under the newest key of the ring, while everything goes on.

What is left to do is read off the values themselves, whose first bytes name their key. So it can be interrupted at any
moment, and run again until nothing is left. A value is replaced only if it is still the one that was opened: what
changed meanwhile is met again in the next pass. Rows are locked in the order of their key, as whoever writes them does.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import text

from app.kit.crypto.sealing import KEY_ID_BYTES, KeyRing, SealBrokenError
from app.kit.database.session import Connection, Database, committing

# Rows are held while their batch is written. Measured: 500 and 2,000 gave 31-36 thousand rows/s, 10,000 gave 28.
BATCH_LIMIT = 1000
# More are needed only while somebody still seals with an older key.
PASS_LIMIT = 5
# Another transaction was in the way. What could not be written is tried again in the next pass.
IN_THE_WAY = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError)

_STALE = "octet_length({column}) > 0 AND substring({column} FROM 1 FOR {length}) <> {current}"
_COUNT = "SELECT count(*) FILTER (WHERE octet_length({column}) > 0), count(*) FILTER (WHERE {stale}) FROM {table}"
_READ = "SELECT {keys}, CASE WHEN {stale} THEN {column} END FROM {table} {after} ORDER BY {keys} LIMIT {limit}"
_LOCK = """
    SELECT 1 FROM {table} AS t JOIN unnest({arrays}) AS n ({keys}, was) USING ({keys})
    WHERE t.{column} = n.was ORDER BY {keys} FOR NO KEY UPDATE OF t
"""
_WRITE = """
    UPDATE {table} AS t SET {column} = n.anew FROM unnest({arrays}, {anew}::bytea[]) AS n ({keys}, was, anew)
    WHERE {same} AND t.{column} = n.was
"""


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values: where it is, and how the identity of a row follows from its primary key.

    `keys` are the columns of the primary key with their SQL types, in its order; `identity` takes their values in that
    order and gives what `KeyRing.seal` was given. A value that is empty or NULL holds nothing.
    """

    table: str
    keys: Mapping[str, str]
    column: str
    identity: Callable[..., bytes]

    @property
    def name(self) -> str:
        """What it is called when its numbers are told."""
        return f"{self.table}.{self.column}"

    def spell(self, statement: str, current: str = "", after: str = "") -> str:
        """One of this module's statements, for this column; `current` is the place of the newest key's id."""
        types = [*self.keys.values(), "bytea"]
        return statement.format(
            table=self.table,
            column=self.column,
            keys=", ".join(self.keys),
            same=" AND ".join(f"t.{name} = n.{name}" for name in self.keys),
            arrays=", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, 1)),
            anew=f"${len(types) + 1}",
            stale=_STALE.format(column=self.column, length=KEY_ID_BYTES, current=current),
            after=after,
            limit=BATCH_LIMIT,
        )


class Counted(NamedTuple):
    """How many values a column holds, and how many of them are not under the newest key."""

    sealed_count: int
    stale_count: int


class Batch(NamedTuple):
    """What became of the stale values of one batch; neither one nor the other: they changed, or were locked."""

    resealed_count: int
    unreadable_count: int


@dataclass(frozen=True, slots=True)
class Resealed:
    """What became of one column: values it holds now, resealed ones, and those that are not under the newest key.

    No key of the ring opens the unreadable ones. The others that are left were sealed while the column was gone
    through, or held by somebody all the time.
    """

    sealed_count: int
    resealed_count: int
    unreadable_count: int
    left_count: int


async def count(database: Database, ring: KeyRing, column: SealedColumn) -> Counted:
    """Look at every value's key. The database must be one that waits for long answers."""
    async with database.snapshot() as session:
        # A table of many millions is scanned in minutes; the limit for ordinary statements does not fit.
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        counting = text(column.spell(_COUNT, current=":current"))
        row = (await session.execute(counting, {"current": ring.current_id})).one()
        return Counted(int(row[0]), int(row[1]))


async def reseal(
    database: Database, connection: Connection, ring: KeyRing, column: SealedColumn, tell: Callable[[int], None]
) -> Resealed:
    """Go through the column until nothing is left but what no key opens; `tell` hears how many more are settled.

    Gives up after a few passes, for a service that still seals with an older key would keep it busy for ever.
    """
    resealed = unreadable = 0
    counted = await count(database, ring, column)
    for _ in range(PASS_LIMIT):
        if counted.stale_count <= unreadable:
            break
        unreadable = 0
        async for batch in walk(connection, ring, column):
            resealed += batch.resealed_count
            unreadable += batch.unreadable_count
            tell(batch.resealed_count)
        counted = await count(database, ring, column)
    # Somebody may have withdrawn what could not be read a moment ago.
    unreadable = min(unreadable, counted.stale_count)
    return Resealed(counted.sealed_count, resealed, unreadable, counted.stale_count - unreadable)


async def walk(connection: Connection, ring: KeyRing, column: SealedColumn) -> AsyncIterator[Batch]:
    """One pass in the order of the key; each batch is committed before it is told."""
    after: Sequence[Any] = ()
    while rows := await connection.fetch(_reading(column, after), ring.current_id, *after):
        after = tuple(rows[-1])[:-1]
        yield await _reseal_batch(connection, ring, column, [row for row in rows if row[-1] is not None])


def _reading(column: SealedColumn, after: Sequence[Any]) -> str:
    places = ", ".join(f"${number}" for number in range(2, len(after) + 2))
    beyond = f"WHERE ({', '.join(column.keys)}) > ({places})" if after else ""
    return column.spell(_READ, current="$1", after=beyond)


async def _reseal_batch(
    connection: Connection, ring: KeyRing, column: SealedColumn, stale: Sequence[asyncpg.Record]
) -> Batch:
    anew = []
    for *key, was in stale:
        identity = column.identity(*key)
        try:
            anew.append((*key, was, ring.seal(ring.open(was, identity), identity)))
        except SealBrokenError:
            continue
    return Batch(await _write(connection, column, anew) if anew else 0, len(stale) - len(anew))


async def _write(connection: Connection, column: SealedColumn, anew: Sequence[tuple[Any, ...]]) -> int:
    """Replace the values that are still what they were, in one transaction; how many that were."""
    arrays = [list(values) for values in zip(*anew, strict=True)]
    try:
        async with committing(connection):
            await connection.execute(column.spell(_LOCK), *arrays[:-1])
            status = await connection.execute(column.spell(_WRITE), *arrays)
    except IN_THE_WAY:
        return 0
    return int(status.rpartition(" ")[2])
