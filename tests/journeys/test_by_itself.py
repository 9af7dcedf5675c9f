"""A petition opens and closes by itself, at the times it was given, whether or not a worker is looking."""

from datetime import timedelta

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.factories import UNPROVEN, person
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]
AT = "/v1/petitions/for-a-day"


@pytest.fixture
async def planned(client: httpx.AsyncClient, campaigner: Headers) -> None:
    """A draft that is to be open from an hour from now, for a day."""
    campaign = {"slug": "end-the-ban", "title": "End the ban", "goal": "No ban"}
    assert (await client.post("/v1/campaigns", json=campaign, headers=campaigner)).status_code == 201
    times = {
        "opens_at": (now() + timedelta(hours=1)).isoformat(),
        "closes_at": (now() + timedelta(hours=25)).isoformat(),
    }
    petition = {"slug": "for-a-day", "title": "For a day", "ask": "Sign today.", **UNPROVEN, **times}
    answer = await client.post("/v1/campaigns/end-the-ban/petitions", json=petition, headers=campaigner)
    assert answer.status_code == 201, answer.text


async def let_pass(database: Database, hours: int) -> None:
    """Let time pass for all petitions."""
    time = timedelta(hours=hours)
    earlier = "opens_at = opens_at - CAST(:time AS interval), closes_at = closes_at - CAST(:time AS interval)"
    await run(database, f"UPDATE petitions SET {earlier}", time=time)


@pytest.mark.parametrize("with_worker", [True, False])
async def test_a_petition_opens_and_closes_by_itself(
    client: httpx.AsyncClient, database: Database, planned: None, campaigner: Headers, *, with_worker: bool
) -> None:
    async def at(hours: int) -> tuple[int, int]:
        """Hours later: what signing answers, and what looking at the petition does."""
        await let_pass(database, hours)
        if with_worker:
            await sweep(database)
        signed = await client.post(f"{AT}/signatures", json=person(hours))
        return signed.status_code, (await client.get(AT)).status_code

    assert await at(0) == (404, 404)
    assert await at(1) == (201, 200)
    assert await at(23) == (201, 200)
    assert await at(2) == (409, 200)
    shown: Json = (await client.get(AT)).json()
    assert shown["state"] == "closed"
    assert (await client.get(f"{AT}/count")).json()["signature_count"] == 2
    stored = await run(database, "SELECT state FROM petitions")
    assert stored[0].state == ("closed" if with_worker else "draft")
    answer = await client.post(f"{AT}/reopen", headers=campaigner)
    assert (answer.status_code, answer.json()["state"]) == (200, "open")
    assert (await client.post(f"{AT}/signatures", json=person(99))).status_code == 201
    assert await exact_counts(database) == {"for-a-day": 3}
