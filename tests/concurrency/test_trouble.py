"""Trouble: queues full, connections lost, databases gone. Whoever was told to have signed has, once."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.kit.database.session import Database, driver_url
from app.kit.problems import Unavailable
from app.settings import Settings
from app.signatures.engine.signings import Signing
from app.signatures.services import SigningServices
from tests.support.application import serving
from tests.support.attempts import own_id
from tests.support.databases import run
from tests.support.factories import people_like, person
from tests.support.postgres import Cluster
from tests.support.signing_engine import SLUG, commit_failures, sign, signatures_locked, wait_for_blocked
from tests.support.tallies import dump_signatures, exact_counts

OpenRoom = Callable[..., Awaitable[SigningServices]]
AT = f"/v1/petitions/{SLUG}/signatures"


@pytest.fixture
def url(own_url: str) -> str:
    """A database of this test's own, to be put out of reach or changed."""
    return own_url


async def test_a_full_queue_answers_503_and_loses_nothing(
    settings: Settings, database: Database, petition_id: UUID
) -> None:
    small = settings.model_copy(update={"queue_limit": 4, "batch_limit": 4})
    async with serving(small) as (_, _, client):
        assert (await client.post(AT, json=person(1000))).status_code == 201
        async with signatures_locked(database):
            posts = [asyncio.create_task(client.post(AT, json=body)) for body in people_like(30)]
            refused = await _first(posts, 22)
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {201, 503}
        for answer in refused:
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:multitude:problem:queue-full"
        taken = {answer.json()["id"] for answer in answers if answer.status_code == 201}
        rows = await run(database, "SELECT id FROM signatures")
        assert taken < {own_id(row.id) for row in rows}
        assert await exact_counts(database) == {SLUG: len(taken) + 1}
        left = [body for body, answer in zip(people_like(30), answers, strict=True) if answer.status_code == 503]
        for body in left:
            assert (await client.post(AT, json=body)).status_code == 201
    assert await exact_counts(database) == {SLUG: 31}


async def _first(posts: list[asyncio.Task[httpx.Response]], number: int) -> list[httpx.Response]:
    """The first so many answers."""
    async with asyncio.timeout(60):
        done: set[asyncio.Task[httpx.Response]] = set()
        while len(done) < number:
            more, _ = await asyncio.wait(set(posts) - done, return_when=asyncio.FIRST_COMPLETED)
            done |= more
    return [task.result() for task in done]


async def test_a_connection_lost_in_the_middle_of_a_batch_is_told_once_and_counted_once(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    await sign(rooms[0], person(1000))
    failed = commit_failures()
    async with signatures_locked(database) as holder:
        signings = [asyncio.create_task(sign(rooms[0], body)) for body in people_like(20)]
        for pid in await wait_for_blocked(holder):
            assert await holder.fetchval("SELECT pg_terminate_backend($1)", pid)
    assert len(await asyncio.gather(*signings)) == 20
    assert commit_failures() > failed
    assert await exact_counts(database) == {SLUG: 21}


async def test_connections_lost_again_and_again_count_everybody_once(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    connection = await database.pin()
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'multitude api'"
    signings = [asyncio.create_task(sign(rooms[number % 2], person(number % 300))) for number in range(600)]
    waiting: set[asyncio.Task[Signing]] = set(signings)
    for _ in range(8):
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await connection.fetch(query)
        if not waiting:
            break
    await connection.close()
    assert len(await asyncio.gather(*signings)) == 600
    assert await exact_counts(database) == {SLUG: 300}


@pytest.mark.parametrize("table", ["signatures", "signature_tallies"])
async def test_a_database_in_trouble_for_too_long_is_told_and_leaves_nothing_half_counted(
    settings: Settings, database: Database, petition_id: UUID, table: str
) -> None:
    impatient = settings.model_copy(update={"commit_patience_seconds": 0.3})
    async with serving(impatient) as (_, _, client):
        assert (await client.post(AT, json=person(1))).status_code == 201
        before = await dump_signatures(database)
        await run(database, f"ALTER TABLE {table} RENAME TO out_of_reach")
        answers = await asyncio.gather(*(client.post(AT, json=body) for body in people_like(10)))
        await run(database, f"ALTER TABLE out_of_reach RENAME TO {table}")
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert await dump_signatures(database) == before
        answers = await asyncio.gather(*(client.post(AT, json=body) for body in people_like(10)))
        assert {answer.status_code for answer in answers} == {201}
    assert await exact_counts(database) == {SLUG: 10}


async def test_a_database_out_of_reach_is_waited_for(
    settings: Settings, petition_id: UUID, database: Database, cluster: Cluster, url: str
) -> None:
    name = driver_url(url).partition("?")[0].rpartition("/")[2]
    other = await asyncpg.connect(cluster.url("postgres"))
    impatient = settings.model_copy(update={"commit_patience_seconds": 0.3})
    async with serving(settings) as (_, _, patient), serving(impatient) as (_, _, hasty):
        for client in (patient, hasty):
            assert (await client.post(AT, json=person(1000))).status_code == 201
        await other.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        await other.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        waiting = [asyncio.create_task(patient.post(AT, json=body)) for body in people_like(5)]
        answer = await hasty.post(AT, json=person(7))
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        await other.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        answers = await asyncio.gather(*waiting)
    await other.close()
    await database.engine.dispose()
    assert {answer.status_code for answer in answers} == {201}
    assert await exact_counts(database) == {SLUG: 6}


async def test_a_signature_the_database_will_not_take_does_not_cost_its_neighbours(
    settings: Settings, database: Database, petition_id: UUID
) -> None:
    await run(database, "ALTER TABLE signatures ADD CONSTRAINT nobody_from_there CHECK (country <> 'AQ')")
    async with serving(settings) as (_, _, client):
        assert (await client.post(AT, json=person(1000))).status_code == 201
        people = [person(number, "AQ" if number in {3, 17, 18} else "UG") for number in range(40)]
        async with signatures_locked(database) as holder:
            posts = [asyncio.create_task(client.post(AT, json=body)) for body in people]
            await wait_for_blocked(holder)
        answers = await asyncio.gather(*posts)
        refused = {number for number, answer in enumerate(answers) if answer.status_code != 201}
        assert refused == {3, 17, 18}
        assert {answers[number].status_code for number in refused} == {500}
        assert (await client.post(AT, json=person(2000))).status_code == 201
    assert await exact_counts(database) == {SLUG: 39}


async def test_whoever_leaves_before_the_answer_is_counted_and_costs_nobody(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    await sign(rooms[0], person(1000))
    async with signatures_locked(database) as holder:
        signings = [asyncio.create_task(sign(rooms[0], body)) for body in people_like(10)]
        await wait_for_blocked(holder)
        for signing in signings[::2]:
            signing.cancel()
    told = await asyncio.gather(*signings, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in told] == [True, False] * 5
    await sign(rooms[0], person(2000))
    assert await exact_counts(database) == {SLUG: 12}


async def test_closing_settles_everything_that_was_taken(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    await sign(rooms[0], person(1000))
    async with signatures_locked(database) as holder:
        signings = [asyncio.create_task(sign(rooms[0], body)) for body in people_like(50)]
        await wait_for_blocked(holder)
        closing = asyncio.create_task(rooms[0].close())
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(Unavailable):
            await sign(rooms[0], person(2000))
        assert not closing.done()
    await closing
    assert len(await asyncio.gather(*signings)) == 50
    assert await exact_counts(database) == {SLUG: 51}


async def test_a_room_with_another_ring_may_not_write(
    rooms: list[SigningServices], open_room: OpenRoom, database: Database, petition_id: UUID, settings: Settings
) -> None:
    await sign(rooms[0], person(1))
    other = Settings.model_validate(
        {"database_url": settings.database_url, "secret_keys": "another-secret-that-is-only-for-tests"}
    )
    room = await open_room(secret_keys=other.secret_keys, key_ring=other.key_ring, commit_patience_seconds=0.2)
    with pytest.raises(Unavailable):
        await sign(room, person(1))
    assert await exact_counts(database) == {SLUG: 1}
