"""Key rotation: every value of a sealed column is sealed anew under the newest key of the ring, with services running.

What is left to do follows from the values, whose first bytes name their key. So rotation can be interrupted at any
moment, and run again until nothing is left. A value is replaced only if it is still the one that was opened: if it
changed meanwhile, the next pass meets it again. Rows are locked in the order of their key, as all writers lock them.
What is sealed is copied as bytes, so fields that only another version knows are kept.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import text

from app.kit.crypto.sealing import KEY_ID_BYTES, KeyRing, SealBrokenError
from app.kit.database.session import Connection, Database, committing

# Rows of a batch stay locked while it is written. Measured: 500 and 2,000 gave 31-36 thousand rows/s, 10,000 gave 28.
BATCH_LIMIT = 1000
# More passes are needed only while some service still seals with an older key.
PASS_LIMIT = 5
# Another transaction held the rows. What could not be written is tried again in the next pass.
BLOCKED = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError)

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
    order and returns the identity that `KeyRing.seal` was called with. An empty or NULL value holds nothing.
    """

    table: str
    keys: Mapping[str, str]
    column: str
    identity: Callable[..., bytes]

    @property
    def name(self) -> str:
        """The label in the progress output."""
        return f"{self.table}.{self.column}"

    def format(self, statement: str, current: str = "", after: str = "") -> str:
        """One of this module's statements, for this column; `current` is the parameter of the newest key's id."""
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
    """The outcome of one batch of stale values; those counted as neither had changed, or were locked."""

    resealed_count: int
    unreadable_count: int


@dataclass(frozen=True, slots=True)
class Resealed:
    """The outcome of one column: how many values it holds now, were resealed, and are not under the newest key.

    No key of the ring opens the unreadable ones. The others that are left were sealed by an older key during the
    rotation, or were locked all the time.
    """

    sealed_count: int
    resealed_count: int
    unreadable_count: int
    left_count: int


async def count(database: Database, ring: KeyRing, column: SealedColumn) -> Counted:
    """Count the values by their key. The database must be opened without an answer timeout: this may take minutes."""
    async with database.snapshot() as session:
        # A table of many millions is scanned in minutes; the limit for ordinary statements does not fit.
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        counting = text(column.format(_COUNT, current=":current"))
        row = (await session.execute(counting, {"current": ring.current_id})).one()
        return Counted(int(row[0]), int(row[1]))


async def reseal(
    database: Database, connection: Connection, ring: KeyRing, column: SealedColumn, on_progress: Callable[[int], None]
) -> Resealed:
    """Reseal the column until nothing is left but what no key opens; `on_progress` gets the size of each step.

    Gives up after a few passes: a service that still seals with an older key would keep it busy for ever.
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
            on_progress(batch.resealed_count)
        counted = await count(database, ring, column)
    # An unreadable row may have been deleted since the last pass.
    unreadable = min(unreadable, counted.stale_count)
    return Resealed(counted.sealed_count, resealed, unreadable, counted.stale_count - unreadable)


async def walk(connection: Connection, ring: KeyRing, column: SealedColumn) -> AsyncIterator[Batch]:
    """One pass in the order of the key; yields each batch after its commit."""
    after: Sequence[Any] = ()
    while rows := await connection.fetch(_reading(column, after), ring.current_id, *after):
        after = tuple(rows[-1])[:-1]
        yield await _reseal_batch(connection, ring, column, [row for row in rows if row[-1] is not None])


def _reading(column: SealedColumn, after: Sequence[Any]) -> str:
    places = ", ".join(f"${number}" for number in range(2, len(after) + 2))
    beyond = f"WHERE ({', '.join(column.keys)}) > ({places})" if after else ""
    return column.format(_READ, current="$1", after=beyond)


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
    """Replace the values that have not changed meanwhile, in one transaction; how many."""
    arrays = [list(values) for values in zip(*anew, strict=True)]
    try:
        async with committing(connection):
            await connection.execute(column.format(_LOCK), *arrays[:-1])
            status = await connection.execute(column.format(_WRITE), *arrays)
    except BLOCKED:
        return 0
    return int(status.rpartition(" ")[2])
