"""Digest rotation: after the digest key has leaked, every digest in the database is wrapped under a new key.

Each digest becomes what `DigestKeys` makes of it, and what is sealed for a row that is named by one is sealed for its
new name. The service is stopped meanwhile: the stored fingerprint names both rings, so that none can start with either.

A row that has been done does not show it. So the keys of all rows are written down first, numbered, in work tables;
slices are taken by number, and how far they have come is committed with them. It can be interrupted at any moment.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg

from app.kit.crypto.digests import DigestKeys
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Connection, committing
from app.kit.problems import OperatorError

# Rows of a slice are one transaction.
SLICE = 2000
# Seconds, to write down the keys of a table of any size.
_PATIENCE = 6 * 3600
_PROGRESS = "digest_rotation"
_ALONE = "SELECT pg_try_advisory_lock(hashtextextended('multitude digest rotation', 0))"
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'multitude %'
    AND application_name <> current_setting('application_name')
"""
_WRITE_DOWN = """
    CREATE TABLE {work} AS SELECT row_number() OVER (ORDER BY {keys}) AS number, {keys} FROM {table};
    ALTER TABLE {work} ADD PRIMARY KEY (number);
    INSERT INTO digest_rotation SELECT '{table}', count(*), 0 FROM {work};
"""
_READ = """
    SELECT {columns} FROM {work} AS w JOIN {table} AS t USING ({keys})
    WHERE w.number > $1 AND w.number <= $2 ORDER BY w.number FOR UPDATE OF t
"""
_WRITE = "UPDATE {table} AS t SET {sets} FROM unnest({arrays}) AS n ({names}) WHERE {same}"


class DigestRotationError(OperatorError):
    """The digests cannot be wrapped now; the message says why."""


class KeyMissingError(DigestRotationError):
    """Values are sealed under a key that is not in the ring: they could never be opened again."""


@dataclass(frozen=True, slots=True)
class DigestedTable:
    """A table with keyed digests. A room declares its own in `room.py`.

    `keys`: the columns of the primary key with their SQL types, in its order. `digests` are columns of whole digests
    (`KeyRing.digest`), `short_digests` of those cut short. `sealed`: columns whose identity contains a digest, and how
    it follows from the key's values, in their order. `guard`: the trigger that refuses every other change of a row.
    """

    table: str
    keys: Mapping[str, str]
    digests: Sequence[str] = ()
    short_digests: Sequence[str] = ()
    sealed: Mapping[str, Callable[..., bytes]] = field(default_factory=dict)
    guard: str = ""

    @property
    def changed(self) -> list[str]:
        """The columns that change."""
        return [*self.digests, *self.short_digests, *self.sealed]

    def format(self, statement: str) -> str:
        """One of this module's statements, for this table; a column's new value is `new_` and its name."""
        types = [*self.keys.values(), *["bytea"] * len(self.changed)]
        return statement.format(
            table=self.table,
            work=f"{_PROGRESS}_{self.table}",
            keys=", ".join(self.keys),
            columns=", ".join(f"t.{name}" for name in dict.fromkeys([*self.keys, *self.changed])),
            sets=", ".join(f"{name} = n.new_{name}" for name in self.changed),
            arrays=", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, 1)),
            names=", ".join([*self.keys, *(f"new_{name}" for name in self.changed)]),
            same=" AND ".join(f"t.{name} = n.{name}" for name in self.keys),
        )


class Slice(NamedTuple):
    """What became of one slice: its table, rows, and values that are damaged and were left as they are."""

    table: str
    row_count: int
    unreadable_count: int


async def prepare(connection: Connection, ring: KeyRing, tables: Sequence[DigestedTable]) -> bool:
    """Make sure that nobody else is there, and write down what is to be done, unless that has begun already.

    False when the database has these digests already. DigestRotationError when it cannot begin.
    """
    await connection.execute("SET statement_timeout = 0; SET lock_timeout = '10s'")
    if not await connection.fetchval(_ALONE):
        raise DigestRotationError("Another command is doing this.")
    await _insist_on_being_alone(connection)
    before, after = _before(ring.digests).fingerprint(), ring.fingerprint()
    stored = await connection.fetchval("SELECT fingerprint FROM digest_keys")
    if stored == after:
        return False
    if stored not in {before, _marker(before, after)}:
        raise DigestRotationError("The database was filled with other digest keys than these, without the newest.")
    await connection.execute("UPDATE digest_keys SET fingerprint = $1", _marker(before, after))
    # Whoever has started since we looked: nobody can any more.
    await _insist_on_being_alone(connection)
    if await connection.fetchval("SELECT to_regclass($1)", _PROGRESS) is None:
        await _write_down(connection, tables)
    return True


def _before(digests: DigestKeys) -> DigestKeys:
    if not digests.wrapping:
        raise DigestRotationError("Put a new key in front of MULTITUDE_DIGEST_WRAPPING_KEYS first.")
    return DigestKeys(digests.first, digests.wrapping[:-1])


def _marker(before: str, after: str) -> str:
    return f"{before}>{after}"


async def _insist_on_being_alone(connection: Connection) -> None:
    if others := await connection.fetchval(_OTHERS):
        raise DigestRotationError(f"Stop every process of the service first: {others} connections of it are open.")


async def _write_down(connection: Connection, tables: Sequence[DigestedTable]) -> None:
    async with committing(connection):
        await connection.execute(
            f"CREATE TABLE {_PROGRESS} (table_name text PRIMARY KEY, row_count bigint NOT NULL, done bigint NOT NULL)"
        )
        for table in tables:
            await connection.execute(table.format(_WRITE_DOWN), timeout=_PATIENCE)


async def left(connection: Connection) -> int:
    """How many rows are still to be done."""
    return int(await connection.fetchval(f"SELECT coalesce(sum(row_count - done), 0)::bigint FROM {_PROGRESS}"))


async def carry_out(
    connection: Connection, ring: KeyRing, tables: Sequence[DigestedTable], *, leave_unreadable: bool = False
) -> AsyncIterator[Slice]:
    """Do what is left, slice by slice, each yielded after its commit.

    KeyMissingError where a value is under a key that the ring lacks, unless these are to be left unreadable for good.
    """
    for table in tables:
        row_count, done = await connection.fetchrow(  # type: ignore[misc]  # there is one of each table
            f"SELECT row_count, done FROM {_PROGRESS} WHERE table_name = $1", table.table
        )
        for start in range(done, row_count, SLICE):
            yield await _carry_out_slice(connection, ring, table, start, leave_unreadable)


async def _carry_out_slice(
    connection: Connection, ring: KeyRing, table: DigestedTable, start: int, leave_unreadable: bool
) -> Slice:
    unreadable = 0
    async with committing(connection):
        rows = await connection.fetch(table.format(_READ), start, start + SLICE)
        renewed = [_Renewal(ring, table, row) for row in rows]
        unreadable = sum(one.unreadable_count for one in renewed)
        if (missing := sum(one.missing_count for one in renewed)) and not leave_unreadable:
            raise KeyMissingError(f"{table.table}: {missing} values are under a key that is not among the secret keys.")
        await _write(connection, table, [one.values for one in renewed])
        done = f"UPDATE {_PROGRESS} SET done = least(row_count, $2) WHERE table_name = $1"
        await connection.execute(done, table.table, start + SLICE)
    return Slice(table.table, len(rows), unreadable)


async def _write(connection: Connection, table: DigestedTable, rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    if table.guard:
        # Within this transaction only: whatever happens, nobody ever meets the table without its guard.
        await connection.execute(f"ALTER TABLE {table.table} DISABLE TRIGGER {table.guard}")
    await connection.execute(table.format(_WRITE), *map(list, zip(*rows, strict=True)))
    if table.guard:
        await connection.execute(f"ALTER TABLE {table.table} ENABLE TRIGGER {table.guard}")


class _Renewal:
    """One row's key as it was, and the new values of what changes, in the order of `_WRITE`."""

    def __init__(self, ring: KeyRing, table: DigestedTable, row: asyncpg.Record) -> None:
        self._digests, self._since = ring.digests, len(ring.digests.wrapping) - 1
        self.unreadable_count = self.missing_count = 0
        keys = [row[name] for name in table.keys]
        digests = {name: row[name] and self._digests.wrap(row[name], self._since) for name in table.digests}
        short = [row[name] and self._digests.wrap_short(row[name], self._since) for name in table.short_digests]
        named = [digests.get(name, row[name]) for name in table.keys]
        sealed = [
            self._resealed(ring, row[name], identity(*keys), identity(*named))
            for name, identity in table.sealed.items()
        ]
        self.values = [*keys, *digests.values(), *short, *sealed]

    def _resealed(self, ring: KeyRing, sealed: bytes | None, was: bytes, becomes: bytes) -> bytes | None:
        if not sealed:
            return sealed
        try:
            return ring.seal(ring.open(sealed, was), becomes)
        except SealBrokenError:
            self.unreadable_count += 1
            self.missing_count += ring.lacks_key_of(sealed)
            return sealed


async def finish(connection: Connection, ring: KeyRing, tables: Sequence[DigestedTable]) -> None:
    """Let the service start again, with the new digests alone; DigestRotationError while something is left."""
    if await left(connection):
        raise DigestRotationError("Something is left to be done: run it again.")
    async with committing(connection):
        await connection.execute("UPDATE digest_keys SET fingerprint = $1", ring.fingerprint())
        for name in (_PROGRESS, *(f"{_PROGRESS}_{table.table}" for table in tables)):
            await connection.execute(f"DROP TABLE {name}")
