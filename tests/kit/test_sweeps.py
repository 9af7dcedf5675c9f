"""A sweep that fails leaves a trace until it succeeds, and holds up no other."""

import asyncio
import zlib
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from app.kit import sweeps
from app.kit.database.session import Database
from app.kit.room_interface import Sweep
from app.kit.sweeps import FULL_BATCH, forget_sweep_failures, sweep_once
from tests.support.databases import run

_SPACE = int.from_bytes(b"swee")


class Moody:
    """A sweep that does what it is told to."""

    def __init__(self) -> None:
        self.statement = "SELECT 1"
        self.changed: Sequence[int] = []

    async def __call__(self, session: AsyncSession) -> Sequence[int]:
        await session.execute(text(self.statement))
        return self.changed


@pytest.fixture
def moody() -> Moody:
    return Moody()


def failures() -> float:
    return REGISTRY.get_sample_value("multitude_sweep_failures_total", {"sweep": "moody"}) or 0.0


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT nothing_of_this_name", "schema-behind"),
        ("SELECT 1 / 0", "refused"),
        ("DO $$ BEGIN RAISE 'amina@example.org' USING ERRCODE = '55P03'; END $$", "lock-timeout"),
        ("DO $$ BEGIN RAISE 'amina@example.org' USING ERRCODE = '57014'; END $$", "statement-timeout"),
        ("DO $$ BEGIN RAISE 'amina@example.org'; END $$", "failed"),
    ],
)
async def test_a_failure_is_logged_counted_and_kept_until_the_sweep_succeeds(
    database: Database, moody: Moody, statement: str, reason: str
) -> None:
    before, moody.statement = failures(), statement
    other = Moody()
    other.changed = [1, 2]
    both = [Sweep("moody", moody), Sweep("other", other)]
    with capture_logs() as logs:
        await sweep_once(database, both)
        await sweep_once(database, both)
    failed = [log for log in logs if log["event"] == "sweep failed"]
    assert [(log["sweep"], log["end"], log["reason"]) for log in failed] == [("moody", "failed", reason)] * 2
    assert "amina" not in repr(logs)
    assert failures() == before + 2
    done = [(log["sweep"], log["changed"], log["end"]) for log in logs if log["event"] == "swept"]
    assert done == [("other", 2, "done")] * 2
    kept = "SELECT sweep, reason, first_failed_at < last_failed_at FROM sweep_failures"
    assert [tuple(row) for row in await run(database, kept)] == [("moody", reason, True)]
    moody.statement = "SELECT 1"
    await sweep_once(database, both)
    assert await run(database, kept) == []


async def test_who_finds_another_worker_at_it_does_not_take_its_failure_away(database: Database, moody: Moody) -> None:
    moody.statement = "SELECT 1 / 0"
    await sweep_once(database, [Sweep("moody", moody)])
    moody.statement = "SELECT 1"
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_session: AsyncSession) -> Sequence[int]:
        started.set()
        await go_on.wait()
        return []

    first = asyncio.create_task(sweep_once(database, [Sweep("slow", slow, lock_name="moody")]))
    await started.wait()
    await sweep_once(database, [Sweep("moody", moody)])
    assert len(await run(database, "SELECT 1 FROM sweep_failures")) == 1
    go_on.set()
    await first


async def test_a_sweep_that_ran_before_another_worker_took_over_has_succeeded(database: Database, moody: Moody) -> None:
    moody.statement = "SELECT 1 / 0"
    await sweep_once(database, [Sweep("moody", moody)])
    other = await database.pin()
    lock = zlib.crc32(b"moody") - (1 << 31)
    taking: list[asyncio.Task[object]] = []
    waits = text("SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = :lock")

    async def full(session: AsyncSession) -> Sequence[object]:
        """A full batch, at the end of which another worker waits for the lock."""
        taking.append(asyncio.create_task(other.execute("SELECT pg_advisory_lock($1, $2)", _SPACE, lock)))
        async with asyncio.timeout(60):
            while not await session.scalar(waits, {"lock": lock % (1 << 32)}):
                continue
        return range(FULL_BATCH)

    try:
        await sweep_once(database, [Sweep("moody", full)])
        await taking[0]
        assert len(taking) == 1
    finally:
        await other.close()
    assert await run(database, "SELECT 1 FROM sweep_failures") == []


async def test_a_sweep_whose_failure_cannot_be_forgotten_has_succeeded(
    database: Database, moody: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    moody.statement = "SELECT 1 / 0"
    await sweep_once(database, [Sweep("moody", moody)])
    moody.statement, before = "SELECT 1", failures()
    monkeypatch.setattr(sweeps, "_FORGET", text("DELETE FROM nothing_of_this_name WHERE sweep = :sweep"))
    with capture_logs() as logs:
        await sweep_once(database, [Sweep("moody", moody)])
    assert [log["event"] for log in logs] == ["sweep failure cannot be forgotten"]
    assert failures() == before
    assert [row.reason for row in await run(database, "SELECT reason FROM sweep_failures")] == ["refused"]


async def test_when_the_database_is_out_of_reach_it_is_not_asked_to_keep_that(database: Database) -> None:
    async def unreachable(_session: AsyncSession) -> Sequence[int]:
        raise ConnectionRefusedError

    with capture_logs() as logs:
        await sweep_once(database, [Sweep("moody", unreachable)])
    assert [(log["event"], log["reason"]) for log in logs] == [("sweep failed", "database-unreachable")]
    assert await run(database, "SELECT 1 FROM sweep_failures") == []


async def test_failures_of_sweeps_that_are_no_more_are_forgotten(database: Database, moody: Moody) -> None:
    moody.statement = "SELECT 1 / 0"
    await sweep_once(database, [Sweep("moody", moody)])
    for age, left in (("29 days", 1), ("31 days", 0)):
        await run(database, f"UPDATE sweep_failures SET last_failed_at = now() - interval '{age}'")
        async with database.transaction() as session:
            await forget_sweep_failures(session)
        assert len(await run(database, "SELECT 1 FROM sweep_failures")) == left
