"""What limits a key: its maker, its life, from where and how often it may be used."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from app.kit.clock import now
from app.kit.database.session import Database
from tests.support.application import serving
from tests.support.databases import run
from tests.support.settings import settings_for
from tests.support.types import Headers, Json

MakeKey = Callable[..., Awaitable[Headers]]

KEYS = "/v1/organizations/movement/api-keys"
DAY = timedelta(days=1)


def bearer(made: Json) -> Headers:
    return {"Authorization": f"Bearer {made['key']}"}


async def made_by(client: httpx.AsyncClient, headers: Headers, role: str = "owner", **more: object) -> Json:
    answer = await client.post(KEYS, json={"role": role, **more}, headers=headers)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def works(client: httpx.AsyncClient, headers: Headers) -> bool:
    status = (await client.get("/v1/organizations", headers=headers)).status_code
    assert status in {200, 401}
    return status == 200


async def test_a_key_lives_a_year_at_the_most(client: httpx.AsyncClient, owner: Headers) -> None:
    made = await made_by(client, owner)
    left = datetime.fromisoformat(made["expires_at"]) - now()
    assert 364 * DAY < left <= 365 * DAY
    for days, status in ((364, 201), (366, 422)):
        wanted = {"role": "analyst", "expires_at": (now() + days * DAY).isoformat()}
        answer = await client.post(KEYS, json=wanted, headers=owner)
        assert answer.status_code == status
    assert answer.json()["type"] == "urn:multitude:problem:expiry-too-late"


async def test_a_key_makes_none_that_outlives_it(client: httpx.AsyncClient, owner: Headers) -> None:
    ends = (now() + DAY).isoformat()
    short = await made_by(client, owner, expires_at=ends)
    child = await made_by(client, bearer(short), "analyst")
    assert child["expires_at"] == short["expires_at"]
    assert child["made_by"] == short["id"]
    later = {"role": "analyst", "expires_at": (now() + 2 * DAY).isoformat()}
    answer = await client.post(KEYS, json=later, headers=bearer(short))
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:expiry-too-late")


async def test_with_a_key_end_all_that_were_made_with_it(
    client: httpx.AsyncClient, owner: Headers, database: Database
) -> None:
    first = await made_by(client, owner)
    second = await made_by(client, bearer(first))
    third = await made_by(client, bearer(second), "campaigner")
    beside = await made_by(client, owner, "analyst")
    assert (await client.delete(f"{KEYS}/{first['id']}", headers=owner)).status_code == 204
    told = [await works(client, bearer(one)) for one in (first, second, third, beside)]
    assert told == [False, False, False, True]
    rows = await run(database, "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL")
    assert rows[0][0] == 3


async def test_the_last_owner_key_is_also_the_one_whose_descendants_are_the_others(
    client: httpx.AsyncClient, owner: Headers, make_key: MakeKey
) -> None:
    child = await made_by(client, owner)
    mine = next(key for key in (await client.get(KEYS, headers=owner)).json()["items"] if key["id"] != child["id"])
    answer = await client.delete(f"{KEYS}/{mine['id']}", headers=bearer(child))
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:multitude:problem:last-owner-key")
    await make_key("owner")
    assert (await client.delete(f"{KEYS}/{mine['id']}", headers=bearer(child))).status_code == 204
    assert not await works(client, bearer(child))


async def test_no_key_slips_through_while_its_maker_is_ended(
    client: httpx.AsyncClient, owner: Headers, database: Database
) -> None:
    for _ in range(5):
        first = await made_by(client, owner)
        second = await made_by(client, bearer(first))
        body = {"role": "owner"}
        await asyncio.gather(
            *(client.post(KEYS, json=body, headers=bearer(one)) for one in (first, second) for _ in range(3)),
            client.delete(f"{KEYS}/{first['id']}", headers=owner),
        )
    survivors = """
        WITH RECURSIVE line AS (
            SELECT id FROM api_keys WHERE revoked_at IS NOT NULL
            UNION SELECT k.id FROM api_keys AS k JOIN line ON k.made_by = line.id
        ) SELECT count(*) FROM api_keys JOIN line USING (id) WHERE revoked_at IS NULL
    """
    assert (await run(database, survivors))[0][0] == 0


async def test_a_key_works_only_from_its_networks(url: str, make_key: MakeKey) -> None:
    settings = settings_for(url, trusted_proxies="127.0.0.0/8")
    async with serving(settings) as (_, _, client):
        owner = await make_key("owner")
        made = bearer(await made_by(client, owner, "campaigner", networks=["192.0.2.0/24", "2001:db8::/32"]))
        for address, status in (
            ("192.0.2.7", 200),
            ("2001:db8::1", 200),
            ("192.0.3.7", 401),
            ("2001:db9::1", 401),
            ("192.0.2.7, 203.0.113.9", 401),
            ("rubbish", 401),
        ):
            answer = await client.get("/v1/organizations", headers={**made, "X-Forwarded-For": address})
            assert answer.status_code == status, address
        assert (await client.get("/v1/organizations", headers=made)).status_code == 401


async def test_whoever_uses_a_key_from_elsewhere_fills_no_log(url: str, make_key: MakeKey) -> None:
    async with serving(settings_for(url, trusted_proxies="127.0.0.0/8")) as (_, _, client):
        owner = await make_key("owner")
        made = [await made_by(client, owner, "campaigner", networks=["192.0.2.0/24"]) for _ in range(2)]
        with capture_logs() as logs:
            for key in made * 5:
                assert not await works(client, bearer(key))
    told = [line for line in logs if line["event"] == "a key was used from elsewhere"]
    assert [(line["reason"], line["count"]) for line in told] == [(key["id"], 1) for key in made]


async def test_a_key_of_some_networks_makes_none_of_others(
    client: httpx.AsyncClient, owner: Headers, database: Database
) -> None:
    narrow = await made_by(client, owner, networks=["127.0.0.0/8", "10.1.0.0/16"])
    assert (await made_by(client, bearer(narrow), "analyst"))["networks"] == narrow["networks"]
    assert (await made_by(client, bearer(narrow), "analyst", networks=["10.1.2.0/24"]))["networks"] == ["10.1.2.0/24"]
    for wrong in (["0.0.0.0/0"], ["10.0.0.0/8"], ["10.1.2.0/24", "192.0.2.0/24"], ["::/0"]):
        answer = await client.post(KEYS, json={"role": "analyst", "networks": wrong}, headers=bearer(narrow))
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:network-too-wide")
    for wrong in ([], ["here"], ["10.1.2.3/8"], [""]):
        answer = await client.post(KEYS, json={"role": "analyst", "networks": wrong}, headers=owner)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:invalid")


async def test_a_key_is_used_as_often_as_it_may_be(client: httpx.AsyncClient, owner: Headers) -> None:
    limited = bearer(await made_by(client, owner, "analyst", requests_per_minute=3))
    answers = [await client.get("/v1/organizations", headers=limited) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["type"] == "urn:multitude:problem:too-many-requests"
    slow = bearer(await made_by(client, owner, requests_per_minute=30))
    for wanted, given in ((None, 30), (60, 30), (10, 10)):
        assert (await made_by(client, slow, "analyst", requests_per_minute=wanted))["requests_per_minute"] == given
    assert await works(client, owner)


async def test_the_operator_limits_all_keys(url: str, make_key: MakeKey) -> None:
    async with serving(settings_for(url, key_requests_per_minute=2)) as (_, _, client):
        owner = await make_key("owner")
        answers = [await client.get("/v1/organizations", headers=owner) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


@pytest.mark.parametrize("days", [1, 30])
async def test_the_operator_says_how_long_a_key_lives(url: str, make_key: MakeKey, days: int) -> None:
    async with serving(settings_for(url, key_longest_days=days)) as (_, _, client):
        made = await made_by(client, await make_key("owner"))
    assert datetime.fromisoformat(made["expires_at"]) <= now() + days * DAY


async def test_a_key_made_by_the_version_before_goes_on_working(
    client: httpx.AsyncClient, owner: Headers, database: Database
) -> None:
    """It knows none of the new columns, and sets no expiry."""
    await run(database, "UPDATE api_keys SET made_by = NULL, expires_at = NULL")
    assert await works(client, owner)
    made = await made_by(client, owner)
    assert made["expires_at"] is not None
    assert UUID(made["made_by"])


async def test_keys_share_the_limits_of_the_keys_they_were_made_with(client: httpx.AsyncClient, owner: Headers) -> None:
    """However many a limited key makes, and however far down."""
    first = await made_by(client, owner, requests_per_minute=6)
    second = await made_by(client, bearer(first))
    third = await made_by(client, bearer(second), requests_per_minute=3)
    fourth = await made_by(client, bearer(third), "analyst")
    told = [
        await client.get("/v1/organizations", headers=bearer(one)) for one in (fourth, fourth, third, second, first)
    ]
    # Each making counted too: `first` made one, `second` one, `third` one.
    assert [answer.status_code for answer in told] == [200, 200, 429, 200, 429]
    assert (await client.get("/v1/organizations", headers=bearer(fourth))).status_code == 429
    assert await works(client, owner)
