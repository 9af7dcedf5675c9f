"""An invalidation goes on exactly where it was, whoever is killed, and whoever signs or works at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from uuid import UUID

import httpx
import pytest

from app.kit.database.session import Connection, Database, committing
from app.signatures.background import runner
from app.signatures.engine import chunks
from app.signatures.engine.scan import ScanProgress
from app.signatures.services import SigningServices
from tests.support.commands import Running
from tests.support.databases import run
from tests.support.factories import person
from tests.support.invalidations import AT, change_state, claimed_lane, draft_invalidation, prepared_signing, sign_all
from tests.support.services import worker
from tests.support.settings import RING, SECRET_KEYS
from tests.support.signing_engine import sign, wait_for_blocked
from tests.support.tallies import exact_count
from tests.support.types import Headers, Json

pytestmark = pytest.mark.process


PARTS = 20
COUNTRIES = ("UG", "FR", "DE", "KE")


def started(url: str) -> AbstractContextManager[Running]:
    """A real `multitude worker`, killed at the latest when the block ends."""
    return worker(DATABASE_URL=url, MULTITUDE_SECRET_KEYS=SECRET_KEYS, MULTITUDE_SWEEP_SECONDS="0.1")


@asynccontextmanager
async def one_row_held(database: Database, from_key: bytes) -> AsyncIterator[Connection]:
    """The first Ugandan signature from this key on is locked for as long as the block lasts."""
    connection = await database.pin()
    try:
        async with committing(connection):
            await connection.fetch(
                "SELECT 1 FROM signatures WHERE country = 'UG' AND signer >= $1 ORDER BY signer LIMIT 1 FOR UPDATE",
                from_key,
            )
            yield connection
    finally:
        await connection.close()


async def look(client: httpx.AsyncClient, headers: Headers, invalidation: Json) -> Json:
    answer = await client.get(f"{AT}/invalidations/{invalidation['id']}", headers=headers)
    view: Json = answer.json()
    return view


async def until(client: httpx.AsyncClient, headers: Headers, invalidation: Json, state: str) -> Json:
    """Wait until it is in this state."""
    async with asyncio.timeout(60):
        while (view := await look(client, headers, invalidation))["state"] != state:
            continue
    return view


async def in_state(database: Database, state: str) -> set[bytes]:
    return {row[0] for row in await run(database, "SELECT signer FROM signatures WHERE state = :state", state=state)}


async def proven_count(database: Database, petition_id: UUID) -> int:
    async with database.snapshot() as session:
        return await exact_count(session, petition_id)


@pytest.fixture
async def ugandans(database: Database, petition_id: UUID, monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """A quarter of 2,000 signatures, to be invalidated in twenty parts."""
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 2000 // PARTS)
    people = [prepared_signing(petition_id, person(number, COUNTRIES[number % 4])) for number in range(2000)]
    await sign_all(database, people)
    return {one.signer for one in people if one.tally_keys.country == "UG"}


@pytest.mark.parametrize("verb", ["apply", "undo"])
async def test_a_killed_worker_leaves_a_part_and_the_next_one_the_whole(
    client: httpx.AsyncClient,
    database: Database,
    url: str,
    petition_id: UUID,
    campaigner: Headers,
    ugandans: set[bytes],
    verb: str,
) -> None:
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    if verb == "undo":
        with started(url):
            await until(client, campaigner, view, "applied")
        await change_state(client, campaigner, view, "undo")
    changed = {"apply": "invalidated", "undo": "confirmed"}[verb]
    async with one_row_held(database, b"\x80") as holding:
        with started(url) as process:
            await wait_for_blocked(holding)
            process.kill()
            process.wait(10)
    # What was done is there, to the slice; what was under way is not.
    half = await look(client, campaigner, view)
    assert (half["state"], half["slice"], half["slice_count"]) == (
        {"apply": "applying", "undo": "undoing"}[verb],
        10,
        20,
    )
    assert ugandans & await in_state(database, changed) == {signer for signer in ugandans if signer < b"\x80"}
    count = await proven_count(database, petition_id)
    assert 1500 < count < 2000
    with started(url):
        whole = await until(client, campaigner, view, {"apply": "applied", "undo": "undone"}[verb])
    assert ugandans & await in_state(database, changed) == ugandans
    assert len(await in_state(database, "confirmed")) == await proven_count(database, petition_id)
    assert whole["invalidated_count"] == 500
    assert whole["restored_count"] == (500 if verb == "undo" else 0)


async def test_two_workers_at_once_do_every_slice_once(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, ugandans: set[bytes]
) -> None:
    views = [await draft_invalidation(client, campaigner, countries=[country]) for country in ("UG", "FR")]
    for view in views:
        await change_state(client, campaigner, view, "apply")

    async def work() -> int:
        done, progress = 0, ScanProgress()
        async with claimed_lane(database) as lane:
            async with asyncio.timeout(60):
                while await runner.run_chunk(lane, RING, progress):
                    done += 1
        return done

    both = await asyncio.gather(work(), work())
    # And a look over the whole of each, or two at once.
    assert 2 * (PARTS + 1) <= sum(both) <= 2 * (PARTS + 2)
    assert min(both) > 0
    for view in views:
        told = await look(client, campaigner, view)
        assert (told["state"], told["invalidated_count"]) == ("applied", 500)
    assert await proven_count(database, petition_id) == 1000


async def test_people_go_on_signing_while_an_invalidation_stands_still_in_the_middle(
    client: httpx.AsyncClient,
    database: Database,
    url: str,
    petition_id: UUID,
    campaigner: Headers,
    ugandans: set[bytes],
    rooms: list[SigningServices],
) -> None:
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    async with one_row_held(database, b"\x80") as holding:
        with started(url):
            await wait_for_blocked(holding)
            async with asyncio.timeout(60):  # a batch that waited for the row would fail before
                await asyncio.gather(*(sign(rooms[n % 2], person(n, "UG")) for n in range(5000, 5200)))
    with started(url):
        await until(client, campaigner, view, "applied")
    assert await in_state(database, "invalidated") == ugandans
    assert await proven_count(database, petition_id) == 1700
