"""Transactions: committed when the block ends, undone when it raises; snapshots see one moment."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.kit.database.session import Database, committing, driver_url, is_refusal, sqlalchemy_url
from app.organizations.models import Organization

COUNT = select(func.count()).select_from(Organization)


def _partner(slug: str) -> Organization:
    return Organization(slug=slug, name="A partner", kind="partner")


async def _count(database: Database) -> int:
    async with database.transaction() as session:
        return int(await session.scalar(COUNT) or 0)


async def test_a_block_that_ends_is_committed_and_one_that_raises_is_undone(database: Database) -> None:
    before = await _count(database)
    async with database.transaction() as session:
        session.add(_partner("one"))
    assert await _count(database) == before + 1

    async def fail() -> None:
        async with database.transaction() as session:
            session.add(_partner("two"))
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await _count(database) == before + 1


async def test_a_cancelled_block_is_undone(database: Database) -> None:
    before = await _count(database)
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as session:
            session.add(_partner("one"))
            await session.flush()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _count(database) == before


async def test_what_was_read_may_be_used_after_the_commit(database: Database) -> None:
    async with database.transaction() as session:
        partner = _partner("one")
        session.add(partner)
    assert partner.slug == "one"


async def test_a_snapshot_sees_one_moment_and_writes_nothing(database: Database) -> None:
    async with database.snapshot() as session:
        before = await session.scalar(COUNT)
        async with database.transaction() as other:
            other.add(_partner("one"))
        assert await session.scalar(COUNT) == before
        with pytest.raises(DBAPIError, match="read-only"):
            await session.execute(text("DELETE FROM organizations"))


async def test_a_connection_of_the_pool_is_whole_again_after_a_snapshot(database: Database) -> None:
    for _ in range(12):
        async with database.snapshot() as session:
            assert await session.scalar(text("SHOW transaction_read_only")) == "on"
    async with database.transaction() as session:
        assert await session.scalar(text("SHOW transaction_read_only")) == "off"
        assert await session.scalar(text("SHOW transaction_isolation")) == "read committed"


async def test_a_pinned_connection_commits_and_undoes_alike(database: Database) -> None:
    connection = await database.pin()

    async def fail() -> None:
        async with committing(connection):
            await connection.execute("INSERT INTO notes VALUES (2)")
            raise ZeroDivisionError

    try:
        await connection.execute("CREATE TEMPORARY TABLE notes (n integer)")
        async with committing(connection):
            await connection.execute("INSERT INTO notes VALUES (1)")
        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await connection.fetchval("SELECT array_agg(n) FROM notes") == [1]
    finally:
        await connection.close()


async def test_no_statement_of_ours_can_wait_for_ever(database: Database) -> None:
    connection = await database.pin()
    try:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert await connection.fetchval(f"SHOW {name}") not in {"0", None}
        assert await connection.fetchval("SHOW timezone") == "UTC"
    finally:
        await connection.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_a_database_is_named_in_each_usual_way(scheme: str) -> None:
    url = f"{scheme}://somebody:p%40ss@db.example:5433/movement?ssl=require"
    assert sqlalchemy_url(url) == "postgresql+asyncpg://somebody:p%40ss@db.example:5433/movement?ssl=require"
    assert driver_url(url) == "postgresql://somebody:p%40ss@db.example:5433/movement?ssl=require"


def test_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with postgresql://"):
        sqlalchemy_url("mysql://somebody:secret@db.example/movement")


def test_refused_values_are_told_from_trouble() -> None:
    for error in (asyncpg.UniqueViolationError(), asyncpg.CheckViolationError(), asyncpg.DataError()):
        assert is_refusal(error)
    for trouble in (asyncpg.DeadlockDetectedError(), asyncpg.AdminShutdownError(), OSError(), TimeoutError()):
        assert not is_refusal(trouble)
