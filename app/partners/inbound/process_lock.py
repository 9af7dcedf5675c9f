"""The process lock: an advisory lock that shows whether the process that has claimed a webhook still lives.

A session of its own holds it, so it is free again the moment that session ends, however it ends. Every session takes a
new key: a process that has lost its session without noticing claims nothing any more.
"""

import asyncio
import secrets

import asyncpg

from app.kit.database.session import Connection, Database
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable

# PostgreSQL's bigint, never negative. Locks of one number never meet those of two.
_KEYS = 2**63


class ProcessLock:
    """One per process. Its session begins with the first claim."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._key = 0
        self._beginning = asyncio.Lock()

    async def key(self) -> int:
        """The key of the lock that is held, to claim by; Unavailable."""
        async with self._beginning:
            if self._connection is None or self._connection.is_closed():
                self._connection = None
                await self._begin()
            return self._key

    async def _begin(self) -> None:
        key = secrets.randbelow(_KEYS)
        try:
            self._connection = await self._locked(key)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("no session to claim webhooks by", **failure_of(error))
            raise Unavailable("The database cannot be reached.", retry_after=5) from error
        self._key = key

    async def _locked(self, key: int) -> Connection:
        connection = await self._database.pin()
        try:
            await connection.fetchval("SELECT pg_advisory_lock($1)", key)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def drop(self) -> None:
        """End the session at once: whatever was claimed by its key can be claimed by others."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """End the session in good order."""
        if self._connection is not None:
            await self._connection.close(timeout=5)
            self._connection = None
