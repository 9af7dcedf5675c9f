"""Just the count, for a multitude that keeps asking."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition, person

Sign = Callable[..., Awaitable[httpx.Response]]
AT = "/v1/petitions/end-the-ban/count"


async def test_a_count_is_small_public_and_may_be_cached(
    client: httpx.AsyncClient, sign: Sign, petition_id: UUID
) -> None:
    await sign(person(1))
    for at in (AT, f"/v1/petitions/{petition_id}/count"):
        answer = await client.get(at)
        assert answer.content == b'{"signature_count":1,"signature_goal":100}'
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["etag"] == '"1-100"'
        assert answer.headers["cache-control"] == "public, max-age=0, s-maxage=1, stale-while-revalidate=5"


async def test_whoever_has_the_count_is_told_nothing_until_it_changes(client: httpx.AsyncClient, sign: Sign) -> None:
    etag = (await client.get(AT)).headers["etag"]
    for known in (etag, f"W/{etag}", f'"7-100", {etag}'):
        answer = await client.get(AT, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert "s-maxage=1" in answer.headers["cache-control"]
    await sign(person(1))
    answer = await client.get(AT, headers={"if-none-match": etag})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1-100"')


async def test_a_new_goal_is_a_new_answer(client: httpx.AsyncClient, database: Database, petition_id: UUID) -> None:
    await run(database, "UPDATE petitions SET signature_goal = 500")
    answer = await client.get(AT, headers={"if-none-match": '"0-100"'})
    assert (answer.status_code, answer.json()) == (200, {"signature_count": 0, "signature_goal": 500})


async def test_only_public_petitions_have_a_count(client: httpx.AsyncClient, database: Database) -> None:
    for slug, more in {"draft": {"state": "draft", "opens_at": None}, "removed": {"moderation": "removed"}}.items():
        await insert_petition(database, slug, **more)
        assert (await client.get(f"/v1/petitions/{slug}/count")).status_code == 404
    await insert_petition(database, "closed", state="closed")
    assert (await client.get("/v1/petitions/closed/count")).json()["signature_count"] == 0


async def test_two_processes_add_up_to_one_count(
    client: httpx.AsyncClient, sign: Sign, database: Database, settings: Settings
) -> None:
    async with serving(settings) as (_, _, other):
        for number in range(3):
            assert (await other.post("/v1/petitions/end-the-ban/signatures", json=person(number))).status_code == 201
            assert (await other.get(AT)).json()["signature_count"] == number + 1
        await sign(person(3))
        # This process asks for the first time here, so it reads what the other has committed.
        assert (await client.get(AT)).json()["signature_count"] == 4
    rows = await run(database, "SELECT lane, signature_count FROM signature_tallies WHERE dimension = 'total'")
    assert sorted(row.signature_count for row in rows) == [1, 3]
