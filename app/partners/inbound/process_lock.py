"""The runner: a number by which other processes see whether this one still works on what it has claimed.

It is the name of an advisory lock of a session of its own, so it is free again the moment that session ends, however
it ends. Every session takes a new number: one that was lost without our noticing claims nothing any more.
"""

import asyncio
import secrets

import asyncpg

from app.kit.database.session import Connection, Database
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable

# PostgreSQL's bigint, never negative. Locks named by one number never meet those named by two.
_NUMBERS = 2**63


class Runner:
    """One per process. Its session begins with the first claim."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._number = 0
        self._beginning = asyncio.Lock()

    async def number(self) -> int:
        """The number to claim by; Unavailable."""
        async with self._beginning:
            if self._connection is None or self._connection.is_closed():
                self._connection = None
                await self._begin()
            return self._number

    async def _begin(self) -> None:
        number = secrets.randbelow(_NUMBERS)
        try:
            self._connection = await self._locked(number)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("no session to claim webhooks by", **failure_of(error))
            raise Unavailable("The database cannot be reached.", retry_after=5) from error
        self._number = number

    async def _locked(self, number: int) -> Connection:
        connection = await self._database.pin()
        try:
            await connection.fetchval("SELECT pg_advisory_lock($1)", number)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def drop(self) -> None:
        """End the session at once: whatever was claimed by its number is anybody's."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """End the session in good order."""
        if self._connection is not None:
            await self._connection.close(timeout=5)
            self._connection = None
