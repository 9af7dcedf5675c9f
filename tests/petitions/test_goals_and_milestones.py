"""Goals and milestones: told how many have signed, a petition marks what was reached and aims higher."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any
from uuid import UUID

import httpx
from hypothesis import given
from hypothesis import strategies as st

from app.kit.clock import now
from app.kit.database.session import Database
from app.petitions.milestones import next_goal, reach

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]

AT = "/v1/petitions/repeal-the-act"
LADDER = [100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000]


@given(st.integers(min_value=0, max_value=10**9))
def test_the_next_goal_is_the_first_rung_above_the_count(count: int) -> None:
    goal = next_goal(count)
    assert goal > count
    assert goal // 10 ** (len(str(goal)) - 1) in {1, 2, 5}
    assert set(str(goal)[1:]) == {"0"}
    assert goal == 100 or 2 * goal // 5 <= count, "there is no rung in between"


def test_the_ladder_begins_at_a_hundred_and_leaves_no_rung_out() -> None:
    assert [next_goal(0), *map(next_goal, LADDER[:-1])] == LADDER


async def _reach(database: Database, petition: Json, count: int) -> list[int]:
    async with database.transaction() as session:
        return list(await reach(session, UUID(petition["id"]), count, now()))


async def _read(client: httpx.AsyncClient, headers: Headers) -> tuple[int, dict[int, int | None]]:
    view = (await client.get(AT, headers=headers)).json()
    return view["signature_goal"], {m["signature_count"]: m["reached_signature_count"] for m in view["milestones"]}


async def test_a_count_reaches_what_lies_below_it(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(milestones=[{"signature_count": n} for n in (10, 50, 1000)])
    assert await _reach(database, petition, 9) == []
    assert await _reach(database, petition, 12) == [10]
    assert await _reach(database, petition, 70) == [50]
    assert await _read(client, campaigner) == (100, {10: 12, 50: 70, 1000: None})


async def test_a_goal_that_is_reached_becomes_a_milestone_and_the_next_one_is_set(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(signature_goal=150)
    assert await _reach(database, petition, 149) == []
    assert await _reach(database, petition, 230) == [150]
    assert await _read(client, campaigner) == (500, {150: 230})
    assert await _reach(database, petition, 6_078_985) == [500]
    assert await _read(client, campaigner) == (10_000_000, {150: 230, 500: 6_078_985})


async def test_a_goal_that_is_a_milestone_already_keeps_its_label(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(milestones=[{"signature_count": 100, "label": "The first hundred"}])
    assert await _reach(database, petition, 100) == [100]
    milestones = (await client.get(AT, headers=campaigner)).json()["milestones"]
    assert [(m["label"], m["reached_signature_count"]) for m in milestones] == [("The first hundred", 100)]
    assert milestones[0]["reached_at"] is not None


async def test_a_goal_of_staff_s_own_stays_when_it_is_reached(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(next_goal_automatic=False)
    assert await _reach(database, petition, 100) == [100]
    assert await _reach(database, petition, 101) == []
    assert await _read(client, campaigner) == (100, {100: 100})


async def test_reaching_is_harmless_to_repeat_and_to_race(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(milestones=[{"signature_count": 50}])
    reached = await asyncio.gather(*(_reach(database, petition, 120) for _ in range(4)))
    assert sorted(chain.from_iterable(reached)) == [50, 100]
    before = (await client.get(AT, headers=campaigner)).json()
    assert await _reach(database, petition, 120) == []
    assert await _reach(database, petition, 3) == []
    assert (await client.get(AT, headers=campaigner)).json() == before


async def test_a_petition_that_is_not_there_reaches_nothing(database: Database) -> None:
    assert await _reach(database, {"id": str(UUID(int=7))}, 1000) == []


async def test_milestones_ahead_are_replaced_and_those_reached_are_history(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(milestones=[{"signature_count": n, "label": "old"} for n in (10, 50, 60)])
    await _reach(database, petition, 10)
    body = [{"signature_count": 10, "label": "new"}, {"signature_count": 60, "label": "new"}, {"signature_count": 70}]
    answer = await client.put(f"{AT}/milestones", json=body, headers=campaigner)
    assert answer.status_code == 200
    told = {m["signature_count"]: m["label"] for m in answer.json()["milestones"]}
    assert told == {10: "old", 60: "new", 70: None}
    cleared = await client.put(f"{AT}/milestones", json=[], headers=campaigner)
    assert [m["signature_count"] for m in cleared.json()["milestones"]] == [10]


async def test_replacing_milestones_while_they_are_reached_loses_none(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft(milestones=[{"signature_count": 100}])
    body = [{"signature_count": n} for n in (100, 200, 300)]

    async def replace() -> list[int]:
        answer = await client.put(f"{AT}/milestones", json=body, headers=campaigner)
        assert answer.status_code == 200
        return []

    told = await asyncio.gather(*(_reach(database, petition, 150 * n) if n % 2 else replace() for n in range(1, 9)))
    assert list(chain.from_iterable(told)).count(100) == 1
    goal, milestones = await _read(client, campaigner)
    assert goal == 2000
    assert milestones[100] is not None
    assert set(milestones) >= {100, 200, 300}


async def test_milestones_are_set_by_campaigners_each_once(
    client: httpx.AsyncClient, campaigner: Headers, analyst: Headers, draft: Draft
) -> None:
    await draft()
    at, twice = f"{AT}/milestones", [{"signature_count": 10}, {"signature_count": 10}]
    assert (await client.put(at, json=twice, headers=campaigner)).status_code == 422
    assert (await client.put(at, json=[], headers=analyst)).status_code == 403
    assert (await client.put("/v1/petitions/no/milestones", json=[], headers=campaigner)).status_code == 404
