"""Plain SQL on the application's database, and locks that others wait for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from app.kit.database.session import Database, committing
from tests.support.services import PATIENCE

_BLOCKED = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def run(database: Database, statement: str, **values: object) -> list[Any]:
    """One statement, committed; its rows."""
    async with database.transaction() as session:
        result = await session.execute(text(statement), values)
        return list(result) if result.returns_rows else []


async def wait_until(database: Database, question: str, seconds: float = PATIENCE) -> None:
    """Ask until the answer is true."""
    async with asyncio.timeout(seconds):
        while not (await run(database, question))[0][0]:
            continue


@asynccontextmanager
async def locked_by(database: Database, statement: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """What this statement locks is somebody else's while the block lasts, in which one can wait for those who wait."""

    async def wait_for(count: int) -> None:
        await wait_until(database, f"SELECT count(*) = {count} {_BLOCKED}")

    connection = await database.pin()
    try:
        async with committing(connection):
            await connection.execute(statement)
            yield wait_for
    finally:
        await connection.close()
