"""Milestones and goals are found by the worker's sweep, after the signatures and without their help."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx

from app.kit.database.session import Database
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.factories import people_like, person
from tests.support.types import Json

Headers = dict[str, str]
Sign = Callable[..., Awaitable[httpx.Response]]
AT = "/v1/petitions/end-the-ban"


async def milestones(client: httpx.AsyncClient) -> dict[int, int | None]:
    view: Json = (await client.get(AT)).json()
    return {one["signature_count"]: one["reached_signature_count"] for one in view["milestones"]}


async def test_a_milestone_is_reached_by_the_count_and_stays_reached(
    client: httpx.AsyncClient, sign: Sign, database: Database, campaigner: Headers
) -> None:
    wished = [{"signature_count": count} for count in (2, 5)]
    assert (await client.put(f"{AT}/milestones", json=wished, headers=campaigner)).status_code == 200
    first = (await sign(person(1))).json()
    await sweep(database)
    assert await milestones(client) == {2: None, 5: None}
    await asyncio.gather(*map(sign, people_like(4)))
    await sweep(database)
    assert await milestones(client) == {2: 4, 5: None}
    await client.post(first["links"]["withdraw"], json={"receipt": first["receipt"]})
    await asyncio.gather(*map(sign, people_like(7)))
    before = (await client.get(AT)).json()["milestones"][0]
    await sweep(database)
    assert await milestones(client) == {2: 4, 5: 7}
    assert (await client.get(AT)).json()["milestones"][0] == before


async def test_a_goal_that_is_reached_makes_way_for_the_next(
    client: httpx.AsyncClient, sign: Sign, database: Database
) -> None:
    await asyncio.gather(*map(sign, people_like(100)))
    assert (await client.get(f"{AT}/count")).json() == {"signature_count": 100, "signature_goal": 100}
    await asyncio.gather(sweep(database), sweep(database))
    assert (await client.get(AT)).json()["signature_goal"] == 200
    assert await milestones(client) == {100: 100}


async def test_a_goal_that_shall_stay_is_reached_once(
    client: httpx.AsyncClient, sign: Sign, database: Database, petition_id: UUID
) -> None:
    await run(database, "UPDATE petitions SET signature_goal = 2, next_goal_automatic = false")
    for count in (1, 2, 3):
        await sign(person(count))
        await sweep(database)
    assert (await client.get(AT)).json()["signature_goal"] == 2
    assert await milestones(client) == {2: 2}


async def test_a_sweep_over_petitions_at_rest_writes_nothing(sign: Sign, database: Database) -> None:
    await run(database, "UPDATE petitions SET signature_goal = 1")
    await sign(person(1))
    await sweep(database)
    at_rest = "SELECT xmin, ctid, * FROM petitions", "SELECT xmin, ctid, * FROM petition_milestones"
    before = [await run(database, statement) for statement in at_rest]
    await sweep(database)
    assert [await run(database, statement) for statement in at_rest] == before
