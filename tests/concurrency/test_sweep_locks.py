"""Sweeps are locked by their names: workers of two versions exclude each other, whatever else each of them sweeps."""

import zlib
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.session import Database
from app.kit.room_interface import Sweep
from app.worker import sweep_once

_SPACE = int.from_bytes(b"swee")


async def test_a_sweep_that_another_worker_does_is_left_to_it_and_the_others_are_not(database: Database) -> None:
    done: list[str] = []

    def noting(name: str) -> list[Sweep]:
        async def sweep(session: AsyncSession) -> Sequence[object]:
            done.append(name)
            return []

        return [Sweep(name, sweep)]

    connection = await database.pin()
    try:
        async with connection.transaction():
            lock = zlib.crc32(b"spread") - (1 << 31)
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", _SPACE, lock)
            await sweep_once(database, [*noting("first"), *noting("spread"), *noting("last")])
            await sweep_once(database, noting("spread"))
            assert done == ["first", "last"]
        await sweep_once(database, noting("spread"))
        assert done == ["first", "last", "spread"]
    finally:
        await connection.close()
