"""A rule that no key opens: it is shown as such, can be undone, and holds up nothing else."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.background import runner
from app.signatures.engine import chunks
from app.signatures.engine.scan import ScanProgress, UnreadableRules
from app.signatures.moderation import apply
from tests.support.application import services_for
from tests.support.databases import run
from tests.support.factories import person
from tests.support.invalidations import (
    AT,
    apply_all,
    change_state,
    claimed_lane,
    draft_invalidation,
    prepared_signing,
    sign_all,
)
from tests.support.settings import RING
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 4)


def crowd(petition_id: UUID, count: int) -> list[Any]:
    """So many signatures, as many from each of three countries."""
    return [prepared_signing(petition_id, person(number, ("UG", "FR", "DE")[number % 3])) for number in range(count)]


async def spoil(database: Database, view: Json) -> bytes:
    """Put a rule under a key that nobody has; what it was."""
    ((sealed,),) = await run(database, "SELECT sealed FROM invalidations WHERE id = :id", id=view["id"])
    await run(database, "UPDATE invalidations SET sealed = 'broken' WHERE id = :id", id=view["id"])
    return bytes(sealed)


async def test_a_rule_that_cannot_be_opened_is_passed_over_and_holds_up_nothing_else(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 30))
    await sign_all(database, [prepared_signing(petition_id, person(n), on_hold=True) for n in range(100, 104)])
    broken, settling, other, undone = [
        await draft_invalidation(client, campaigner, countries=[c]) for c in ("UG", "DE", "FR", "FR")
    ]
    for view in (broken, settling, other):
        await change_state(client, campaigner, view, "apply")
    await change_state(client, campaigner, undone, "apply")
    await change_state(client, campaigner, undone, "undo")
    await run(database, "UPDATE invalidations SET slice = slice_count WHERE id = :id", id=settling["id"])
    for view in (broken, settling, undone):
        await spoil(database, view)
    await client.post(f"{AT}/held/release", headers=campaigner)
    with capture_logs() as logs:
        counts = await apply_all(database, petition_id)
    assert counts[-1] == 24
    told = [line["invalidation"] for line in logs if line["log_level"] == "error"]
    assert sorted(told) == sorted([broken["id"], settling["id"]])
    rows = await run(database, "SELECT id, state FROM invalidations")
    assert {str(id_): state for id_, state in rows} == {
        broken["id"]: "applying",
        settling["id"]: "applying",
        other["id"]: "applied",
        undone["id"]: "undone",
    }
    await run(database, "UPDATE petitions SET state = 'closed', personal_data_until = current_date")
    assert await apply_all(database, petition_id) != []
    assert (await run(database, "SELECT personal_data_destroyed_at IS NOT NULL FROM petitions"))[0][0]


async def test_a_worker_told_of_a_rule_it_cannot_open_looks_again_when_its_time_is_over(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    sealed = await spoil(database, view)
    progress = ScanProgress(UnreadableRules(retry_after=timedelta(seconds=1)))
    due = text(f"SELECT {apply.DUE}")
    async with claimed_lane(database) as lane:
        assert not await runner.run_chunk(lane, RING, progress)
        async with database.transaction() as session:
            assert [
                bool(await session.scalar(due, {"passed_over": ids})) for ids in (progress.unreadable.ids(), [])
            ] == [
                False,
                True,
            ]
        await run(database, "UPDATE invalidations SET sealed = :sealed", sealed=sealed)
        async with asyncio.timeout(60):
            while progress.unreadable.ids():
                await run(database, "SELECT pg_sleep(0.05)")
        assert await runner.run_chunk(lane, RING, progress)


async def test_a_worker_tells_of_a_rule_it_cannot_open_once_and_goes_on_looking(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, settings: Settings
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    broken, other = [await draft_invalidation(client, campaigner, countries=[country]) for country in ("UG", "FR")]
    await change_state(client, campaigner, broken, "apply")
    await spoil(database, broken)
    quick, ending = settings.model_copy(update={"sweep_seconds": 0.01}), asyncio.Event()
    with capture_logs() as logs:
        working = asyncio.create_task(runner.work(services_for(database, quick), ending))
        async with asyncio.timeout(60):
            while not [line for line in logs if line["event"] == "slices done"]:
                await run(database, "SELECT 1")
            await change_state(client, campaigner, other, "apply")
            while not await run(database, "SELECT 1 FROM invalidations WHERE state = 'applied'"):
                continue
        # Some thirty looks.
        await run(database, "SELECT pg_sleep(0.3)")
        ending.set()
        await working
    told = [line["invalidation"] for line in logs if line["log_level"] == "error"]
    assert told == [broken["id"]]
    # It takes a lane only when there is something to do.
    assert len([line for line in logs if line["event"] == "slices done"]) == 2


async def test_a_rule_that_cannot_be_opened_is_shown_as_none_and_not_applied(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    whole, broken, applied = [await draft_invalidation(client, campaigner, countries=["UG"]) for _ in range(3)]
    await change_state(client, campaigner, applied, "apply")
    await apply_all(database, petition_id)
    for view in (broken, applied):
        await spoil(database, view)
    listed = (await client.get(f"{AT}/invalidations", headers=campaigner)).json()["items"]
    assert [(item["id"], item["rule"] is None) for item in listed] == [
        (applied["id"], True),
        (broken["id"], True),
        (whole["id"], False),
    ]
    shown = (await client.get(f"{AT}/invalidations/{broken['id']}", headers=campaigner)).json()
    assert (shown["state"], shown["rule"], shown["dry_run"]) == ("draft", None, None)
    refused = await client.post(f"{AT}/invalidations/{broken['id']}/apply", headers=campaigner)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:rule-unreadable")
    assert (await change_state(client, campaigner, applied, "undo"))["rule"] is None
    await apply_all(database, petition_id)
    assert await exact_counts(database) == {"end-the-ban": 18}
