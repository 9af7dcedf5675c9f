"""A round of the background runner that fails leaves a trace until one succeeds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.signatures.background import consents, runner
from tests.support.application import services_for
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, person
from tests.support.settings import settings_for

FAILING = "SELECT sweep, reason FROM sweep_failures"


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[None]:
    """The runner, for as long as the block lasts."""
    ending = asyncio.Event()
    quick = settings_for("postgresql://unused", sweep_seconds=0.02)
    task = asyncio.create_task(runner.work(services_for(database, quick), ending))
    try:
        yield
    finally:
        ending.set()
        await task


def failures() -> float:
    return REGISTRY.get_sample_value("multitude_sweep_failures_total", {"sweep": "runner"}) or 0.0


async def test_what_interrupts_it_is_logged_counted_and_kept_until_it_runs_again(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = failures()
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(runner, "_DUE", runner.text("SELECT 1 / 0"))
        async with running(database):
            await wait_until(database, "SELECT count(*) = 1 FROM sweep_failures")
    assert [tuple(row) for row in await run(database, FAILING)] == [("runner", "refused")]
    assert failures() > before
    told = {(log["event"], log["sweep"], log["reason"], log["end"]) for log in logs}
    assert told == {("a job was interrupted", "runner", "refused", "failed")}
    async with running(database):
        await wait_until(database, "SELECT count(*) = 0 FROM sweep_failures")


async def test_since_when_work_waits_is_told(client: httpx.AsyncClient, database: Database) -> None:
    async def oldest() -> list[object]:
        async with database.transaction() as session:
            return [await session.scalar(statement) for statement in (runner.OLDEST_DUE, consents.OLDEST_DUE)]

    await insert_petition(database)
    assert await oldest() == [None, None]
    told = await client.post("/v1/petitions/end-the-ban/signatures", json=person(1))
    assert told.status_code == 201
    # Of what nobody vouches for no consent is due before it is proven.
    await run(database, "UPDATE signatures SET consents_due = true")
    assert await oldest() == [None, None]
    await run(database, "UPDATE signatures SET imported = true")
    await run(
        database,
        "UPDATE petitions SET state = 'closed', personal_data_until = (now() AT TIME ZONE 'UTC')::date - 3",
    )
    ((day, signed_at),) = await run(
        database, "SELECT date_trunc('day', now(), 'UTC') - interval '3 days', signed_at FROM petitions, signatures"
    )
    # Personal data are not destroyed before the consents are recorded.
    assert await oldest() == [None, signed_at]
    await run(database, "UPDATE signatures SET consents_due = NULL")
    assert await oldest() == [day, None]
    await run(database, "UPDATE petitions SET release_held_before = now() - interval '9 days'")
    ((asked,),) = await run(database, "SELECT release_held_before FROM petitions")
    assert await oldest() == [asked, None]
