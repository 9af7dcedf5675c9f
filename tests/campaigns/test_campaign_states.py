"""How a campaign lives and ends."""

from itertools import product

import httpx
import pytest

from app.campaigns.models import STATES
from tests.support import second_person

Headers = dict[str, str]

AT = "/v1/campaigns/end-the-ban"
# How to bring a new campaign into each state.
WAYS = {
    "draft": [],
    "active": ["active"],
    "paused": ["active", "paused"],
    "won": ["active", "won"],
    "lost": ["active", "paused", "lost"],
    "archived": ["archived"],
}
ALLOWED = {
    ("draft", "active"),
    ("draft", "archived"),
    ("active", "paused"),
    ("active", "won"),
    ("active", "lost"),
    ("active", "archived"),
    ("paused", "active"),
    ("paused", "won"),
    ("paused", "lost"),
    ("paused", "archived"),
    ("won", "active"),
    ("won", "archived"),
    ("lost", "active"),
    ("lost", "archived"),
}


async def draft(client: httpx.AsyncClient, staff: Headers, slug: str = "end-the-ban") -> str:
    body = {"slug": slug, "title": "End the ban", "goal": "No ban", "state": "draft"}
    assert (await client.post("/v1/campaigns", json=body, headers=staff)).status_code == 201
    return f"/v1/campaigns/{slug}"


async def turn(
    client: httpx.AsyncClient, staff: Headers, state: str, *, at: str = AT, **more: object
) -> httpx.Response:
    return await client.patch(at, json={"state": state} | more, headers=staff)


async def test_a_campaign_goes_only_the_ways_that_are_allowed(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers
) -> None:
    async def turned(at: str, state: str) -> int:
        return (await second_person.send(client, owner, "PATCH", at, campaigner, {"state": state})).status_code

    for before, after in product(STATES, STATES):
        at = await draft(client, campaigner, f"{before}-{after}")
        await client.patch(at, json={"outcome": "It is over"}, headers=campaigner)
        for state in WAYS[before]:
            assert await turned(at, state) == 200
        status = await turned(at, after)
        allowed = before == after or (before, after) in ALLOWED
        assert status == (200 if allowed else 409), (before, after)
        found = (await client.get(at, headers=campaigner)).json()
        assert found["state"] == (after if allowed else before)


@pytest.mark.parametrize("ending", ["won", "lost"])
async def test_an_ending_needs_an_outcome(client: httpx.AsyncClient, campaigner: Headers, ending: str) -> None:
    await draft(client, campaigner)
    await turn(client, campaigner, "active")
    refused = await turn(client, campaigner, ending, title="Not kept")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:multitude:problem:outcome-missing")
    assert (await client.get(AT)).json().items() >= {"state": "active", "title": "End the ban"}.items()
    answer = await turn(client, campaigner, ending, outcome="The court has ruled", outcome_on="2026-05-01")
    assert answer.status_code == 200
    assert (await client.patch(AT, json={"outcome": None}, headers=campaigner)).status_code == 422
    taken_back = await turn(client, campaigner, "active", outcome=None, outcome_on=None)
    assert taken_back.json().items() >= {"state": "active", "outcome": None}.items()


async def test_a_refused_change_changes_nothing(client: httpx.AsyncClient, campaigner: Headers) -> None:
    await draft(client, campaigner)
    answer = await client.patch(AT, json={"title": "New", "state": "paused"}, headers=campaigner)
    assert answer.status_code == 409
    assert (await client.get(AT, headers=campaigner)).json()["title"] == "End the ban"
