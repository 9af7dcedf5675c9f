"""A partner's last webhook secret and its last active endpoint do not end at once."""

from datetime import timedelta

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.partners import Partner, insert_further_key
from tests.support.second_person import confirm
from tests.support.time_travel import age
from tests.support.types import Headers
from tests.support.webhooks import insert_endpoint

SLUG = "sisters-of-kampala"
SECRETS = f"/v1/partners/{SLUG}/webhook-secrets"
ENDPOINTS = f"/v1/organizations/{SLUG}/webhook-endpoints"
HOOK = "https://1.1.1.1/hook"


async def is_live(client: httpx.AsyncClient, partner: Headers, secret: object) -> bool:
    listed = (await client.get(SECRETS, headers=partner)).json()["items"]
    return any(one["live"] for one in listed if one["id"] == str(secret))


async def test_the_last_secret_of_a_scheme_ends_in_a_day(
    client: httpx.AsyncClient, partner: Headers, partnership: Partner, database: Database
) -> None:
    asked = await client.delete(f"{SECRETS}/{partnership.secret_id}", headers=partner)
    assert (asked.status_code, asked.json()["verb"]) == (202, "webhook_secret.end")
    assert await is_live(client, partner, partnership.secret_id)
    await age(database, "pending_acts", "due_at", "1 day")
    await sweep(database)
    assert not await is_live(client, partner, partnership.secret_id)


async def test_a_stolen_secret_ends_at_once_beside_a_new_one(
    client: httpx.AsyncClient, partner: Headers, partnership: Partner
) -> None:
    made = await client.post(SECRETS, json={}, headers=partner)
    assert (await client.delete(f"{SECRETS}/{partnership.secret_id}", headers=partner)).status_code == 204
    assert (await client.delete(f"{SECRETS}/{made.json()['id']}", headers=partner)).status_code == 202


async def test_the_last_active_endpoint_ends_in_a_day(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    first = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    second = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    assert (await client.delete(f"{ENDPOINTS}/{first}", headers=partner)).status_code == 204
    asked = await client.delete(f"{ENDPOINTS}/{second}", headers=partner)
    assert (asked.status_code, asked.json()["object_id"]) == (202, str(second))
    await age(database, "pending_acts", "due_at", "1 day")
    await sweep(database)
    assert (await client.get(ENDPOINTS, headers=partner)).json()["items"] == []
    ((state,),) = await run(database, "SELECT state FROM pending_acts")
    assert state == "done"


@pytest.mark.parametrize("who", ["colleague", "owner"])
async def test_a_colleague_or_an_owner_has_it_done_at_once_and_no_other_partner_sees_it(
    client: httpx.AsyncClient,
    partner: Headers,
    partnership: Partner,
    stranger: Headers,
    owner: Headers,
    database: Database,
    who: str,
) -> None:
    asked = await client.delete(f"{SECRETS}/{partnership.secret_id}", headers=partner)
    at = asked.headers["location"]
    for method, url in (("GET", at), ("POST", f"{at}/confirm"), ("POST", f"{at}/cancel")):
        assert (await client.request(method, url, headers=stranger)).status_code == 404
    assert (await client.get("/v1/pending-acts", headers=stranger)).json()["items"] == []
    assert len((await client.get("/v1/pending-acts", headers=partner)).json()["items"]) == 1
    await confirm(client, asked, owner if who == "owner" else await insert_further_key(database, SLUG))
    assert not await is_live(client, partner, partnership.secret_id)


async def test_pausing_the_last_endpoint_first_is_no_way_around(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    only = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    paused = await client.patch(f"{ENDPOINTS}/{only}", json={"state": "paused"}, headers=partner)
    assert paused.status_code == 200
    assert (await client.delete(f"{ENDPOINTS}/{only}", headers=partner)).status_code == 202
    other = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    # Its own end waits: it does not stay.
    assert (await client.delete(f"{ENDPOINTS}/{other}", headers=partner)).status_code == 202
    assert await insert_endpoint(database, settings, HOOK, slug=SLUG)
    assert (await client.delete(f"{ENDPOINTS}/{only}", headers=partner)).status_code == 204


@pytest.mark.parametrize(("life", "status"), [(timedelta(seconds=3), 202), (timedelta(days=2), 204)])
async def test_a_secret_that_soon_expires_does_not_stand_in_for_the_last(
    client: httpx.AsyncClient, partner: Headers, partnership: Partner, life: timedelta, status: int
) -> None:
    made = await client.post(SECRETS, json={"expires_at": (now() + life).isoformat()}, headers=partner)
    assert made.status_code == 201
    assert (await client.delete(f"{SECRETS}/{partnership.secret_id}", headers=partner)).status_code == status


async def test_a_secret_whose_end_waits_does_not_stand_in_for_the_last(
    client: httpx.AsyncClient, partner: Headers, partnership: Partner
) -> None:
    assert (await client.delete(f"{SECRETS}/{partnership.secret_id}", headers=partner)).status_code == 202
    made = (await client.post(SECRETS, json={}, headers=partner)).json()
    assert (await client.delete(f"{SECRETS}/{made['id']}", headers=partner)).status_code == 202
