"""Over a petition's limit: whoever signs too often from one address is told nothing, and counted when staff say so."""

from collections.abc import AsyncIterator

import httpx
import pytest
from movement import Json, like, person, plant, proven, run, serving, until, working

from app.kit.db import Database
from app.kit.settings import Settings

Headers = dict[str, str]

AT = "/v1/petitions/end-the-ban"
HELD = "SELECT count(*) FROM signatures WHERE state = 'pending' AND held"


async def sign(client: httpx.AsyncClient, body: Json, address: str | None = None) -> httpx.Response:
    headers = {"X-Forwarded-For": address} if address else {}
    answer = await client.post(f"{AT}/signatures", json=body, headers=headers)
    assert answer.status_code == 201
    return answer


@pytest.fixture
async def behind_a_proxy(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come through a proxy that is believed."""
    trusting = settings.model_copy(update={"trusted_proxies": ["127.0.0.0/8"]})
    async with serving(trusting) as (_, _, client):
        yield client


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_what_is_over_the_limit_looks_like_the_rest_and_does_not_count(
    client: httpx.AsyncClient, database: Database, confirmation: str
) -> None:
    await plant(database, address_limit=3, confirmation=confirmation)
    answers = [await sign(client, body) for body in like(5)]
    assert len({(answer.json()["status"], *sorted(answer.headers)) for answer in answers}) == 1
    assert (await run(database, HELD))[0][0] == 2
    assert await proven(database) == {"end-the-ban": 3 if confirmation == "none" else 0}
    rows = await run(database, "SELECT count(*) FROM signatures WHERE due_mail IS NOT NULL")
    assert rows[0][0] == (0 if confirmation == "none" else 3), "nobody who is held gets a mail"


async def test_only_who_signs_too_often_is_held(behind_a_proxy: httpx.AsyncClient, database: Database) -> None:
    await plant(database, address_limit=2)
    for number, address in enumerate(
        ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
    ):
        await sign(behind_a_proxy, person(number), address)
    assert await proven(database) == {"end-the-ban": 5}
    digests = await run(
        database, "SELECT count(DISTINCT address_digest), min(octet_length(address_digest)) FROM signatures"
    )
    assert tuple(digests[0]) == (3, 8), "two addresses of one household are one"


async def test_nobody_is_believed_who_names_an_address_without_being_trusted(
    client: httpx.AsyncClient, database: Database
) -> None:
    await plant(database, address_limit=1)
    for number in range(3):
        await sign(client, person(number), f"192.0.2.{number}")
    assert await proven(database) == {"end-the-ban": 1}


async def test_another_petition_and_a_petition_without_a_limit_do_not_care(
    client: httpx.AsyncClient, database: Database
) -> None:
    await plant(database, address_limit=1)
    await plant(database, "another", address_limit=1)
    await plant(database, "free")
    for slug in ("another", "free", "free", "end-the-ban"):
        number = len(await run(database, "SELECT 1 FROM signatures"))
        answer = await client.post(f"/v1/petitions/{slug}/signatures", json=person(number))
        assert answer.status_code == 201
    assert await proven(database) == {"another": 1, "end-the-ban": 1, "free": 2}


async def test_released_signatures_count_as_if_nothing_had_happened(
    client: httpx.AsyncClient, database: Database, settings: Settings, campaigner: Headers
) -> None:
    await plant(database, address_limit=1)
    receipts = [(await sign(client, body)).json()["receipt"] for body in like(4)]
    await client.post(f"{AT}/withdrawals", json={"receipt": receipts[3]})
    shown = await client.get(f"{AT}/held", headers=campaigner)
    assert shown.json()["held_count"] == 2
    assert (await client.post(f"{AT}/held/release", headers=campaigner)).status_code == 200
    async with working(settings):
        await until(database, "SELECT release_held_before IS NULL FROM petitions")
    assert await proven(database) == {"end-the-ban": 3}
    rows = await run(database, "SELECT state, count(*) FROM signatures GROUP BY state ORDER BY state")
    assert [tuple(row) for row in rows] == [("confirmed", 3), ("withdrawn", 1)]


async def test_the_limit_of_a_petition_is_shown_to_staff_alone(
    client: httpx.AsyncClient, database: Database, analyst: Headers
) -> None:
    await plant(database, address_limit=7)
    assert (await client.get(AT, headers=analyst)).json()["address_limit"] == 7
    assert (await client.get(AT)).json()["address_limit"] is None
