"""A lane is a counter shard (sharded counter), together with the one connection that writes it.

Every tally row carries the lane's number, so no two writers ever wait for each other's commit; a tally is the sum of
its lanes. The number is held by a session-level advisory lock: when the connection ends, however it ends, the lane is
free.
"""

from dataclasses import dataclass

from app.kit.crypto import key_ring_guard
from app.kit.database.session import Connection, Database

# First half of the advisory lock's name: "lane" in ASCII.
_LOCK_SPACE = 0x6C616E65
LANES = 256


class NoLaneError(Exception):
    """All 256 lanes are taken. A process takes one, and another once a partner has posted to it."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One shard of every tally, and the connection that writes it."""

    number: int
    connection: Connection

    def drop(self) -> None:
        """End the connection at once, whatever state it is in; the lane is free again."""
        self.connection.terminate()

    async def release(self) -> None:
        """End the connection in good order."""
        await self.connection.close(timeout=5)


async def claim(database: Database, fingerprint: str) -> Lane:
    """Open a connection and take the lowest free lane.

    Raises what connecting raises, NoLaneError, or KeyRingMismatchError when `fingerprint` names another digest key than
    the one the database was filled with.
    """
    async with database.transaction() as session:
        await key_ring_guard.ensure_key_ring(session, fingerprint)
    connection = await database.pin(by_key=True)
    try:
        return Lane(await _lowest_free(connection), connection)
    except BaseException:
        connection.terminate()
        raise


async def _lowest_free(connection: Connection) -> int:
    for number in range(LANES):
        if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _LOCK_SPACE, number):
            return number
    raise NoLaneError
