"""Keys: made, listed, used, expiring, revoked."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
from sqlalchemy import select, update

from app.kit.clock import now
from app.kit.database.session import Database
from app.organizations.models import ApiKey

Headers = dict[str, str]
MakeKey = Callable[..., Awaitable[Headers]]

KEYS = "/v1/organizations/movement/api-keys"


def key_of(headers: Headers) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


async def stored(database: Database, headers: Headers) -> ApiKey:
    """The row of the key in these headers, as it is now."""
    digest = hashlib.sha256(key_of(headers).encode()).digest()
    async with database.transaction() as session:
        return (await session.scalars(select(ApiKey).where(ApiKey.digest == digest))).one()


async def test_a_new_key_is_shown_once_and_works(client: httpx.AsyncClient, owner: Headers) -> None:
    answer = await client.post(KEYS, json={"role": "analyst", "label": "map"}, headers=owner)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"mtd_analyst_[A-Za-z0-9_-]{43}", made["key"])
    assert made["prefix"] == f"{made['key'][:20]}…"
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert (await client.get("/v1/organizations", headers=headers)).status_code == 200


async def test_the_list_never_shows_a_key_or_its_digest(client: httpx.AsyncClient, owner: Headers) -> None:
    made = (await client.post(KEYS, json={"role": "analyst"}, headers=owner)).json()
    answer = await client.get(KEYS, headers=owner)
    newest = answer.json()["items"][0]
    assert newest["id"] == made["id"]
    assert set(newest) == set(made) - {"key"}
    assert made["key"] not in answer.text
    assert "digest" not in answer.text


async def test_the_database_keeps_only_the_digest(
    client: httpx.AsyncClient, owner: Headers, database: Database
) -> None:
    row = await stored(database, owner)
    assert row.digest == hashlib.sha256(key_of(owner).encode()).digest()
    assert key_of(owner)[-35:] not in repr(vars(row))


NO_KEYS = [
    "",
    "Bearer",
    "Bearer ",
    "Basic YTpi",
    "Bearer mtd_owner_short",
    f"Bearer mtd_owner_{'A' * 43}",
    f"Bearer mtd_king_{'A' * 43}",
    "Bearer \xff\xfe",
    "x" * 5000,
]


async def test_a_header_that_is_no_live_key_is_refused_not_taken_for_none(client: httpx.AsyncClient) -> None:
    for authorization in NO_KEYS:
        for path in ("/v1/organizations", "/v1/campaigns"):
            answer = await client.get(path, headers={b"Authorization": authorization.encode("latin-1")})
            assert answer.status_code == 401, authorization
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient, owner: Headers) -> None:
    headers = [("Authorization", owner["Authorization"])] * 2
    assert (await client.get("/v1/organizations", headers=headers)).status_code == 401


async def test_the_scheme_may_be_spelt_in_any_case(client: httpx.AsyncClient, owner: Headers) -> None:
    headers = {"Authorization": f"bearer  {key_of(owner)}"}
    assert (await client.get("/v1/organizations", headers=headers)).status_code == 200


async def test_a_revoked_key_opens_nothing(
    client: httpx.AsyncClient, owner: Headers, analyst: Headers, database: Database
) -> None:
    row = await stored(database, analyst)
    assert (await client.get("/v1/campaigns", headers=analyst)).status_code == 200
    answer = await client.delete(f"{KEYS}/{row.id}", headers=owner)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get("/v1/campaigns", headers=analyst)).status_code == 401
    assert (await client.get("/v1/organizations", headers=analyst)).status_code == 401


async def test_revoking_again_is_harmless_and_keeps_the_first_time(
    client: httpx.AsyncClient, owner: Headers, analyst: Headers, database: Database
) -> None:
    path = f"{KEYS}/{(await stored(database, analyst)).id}"
    assert (await client.delete(path, headers=owner)).status_code == 204
    first = (await stored(database, analyst)).revoked_at
    assert (await client.delete(path, headers=owner)).status_code == 204
    assert (await stored(database, analyst)).revoked_at == first


async def test_a_key_is_revoked_only_through_its_own_organization(
    client: httpx.AsyncClient, owner: Headers, analyst: Headers, database: Database
) -> None:
    await client.post("/v1/organizations", json={"slug": "partner-a", "name": "A"}, headers=owner)
    row = await stored(database, analyst)
    refs = [
        f"/v1/organizations/partner-a/api-keys/{row.id}",
        f"{KEYS}/nothing",
        f"{KEYS}/{row.organization_id}",
    ]
    for path in refs:
        assert (await client.delete(path, headers=owner)).status_code == 404
    assert (await client.get("/v1/organizations", headers=analyst)).status_code == 200


async def test_an_expired_key_opens_nothing(client: httpx.AsyncClient, analyst: Headers, database: Database) -> None:
    row = await stored(database, analyst)
    async with database.transaction() as session:
        past = now() - timedelta(seconds=1)
        await session.execute(update(ApiKey).where(ApiKey.id == row.id).values(expires_at=past))
    assert (await client.get("/v1/campaigns", headers=analyst)).status_code == 401


async def test_a_key_must_expire_in_the_future(client: httpx.AsyncClient, owner: Headers) -> None:
    later = (now() + timedelta(days=1)).isoformat()
    answer = await client.post(KEYS, json={"role": "analyst", "expires_at": later}, headers=owner)
    assert answer.status_code == 201
    for wrong in ((now() - timedelta(seconds=1)).isoformat(), "2030-01-01T00:00:00", "tomorrow"):
        answer = await client.post(KEYS, json={"role": "analyst", "expires_at": wrong}, headers=owner)
        assert answer.status_code == 422


async def test_staff_roles_are_for_the_movement_and_partner_is_for_partners(
    client: httpx.AsyncClient, owner: Headers
) -> None:
    await client.post("/v1/organizations", json={"slug": "partner-a", "name": "A"}, headers=owner)
    partners = "/v1/organizations/partner-a/api-keys"
    for role in ("owner", "campaigner", "analyst", "data_officer"):
        assert (await client.post(KEYS, json={"role": role}, headers=owner)).status_code == 201
        assert (await client.post(partners, json={"role": role}, headers=owner)).status_code == 422
    assert (await client.post(partners, json={"role": "partner"}, headers=owner)).status_code == 201
    assert (await client.post(KEYS, json={"role": "partner"}, headers=owner)).status_code == 422
    assert (await client.post(KEYS, json={"role": "king"}, headers=owner)).status_code == 422


async def test_the_last_live_owner_key_cannot_be_revoked(
    client: httpx.AsyncClient, owner: Headers, make_key: MakeKey, database: Database
) -> None:
    mine = await stored(database, owner)
    answer = await client.delete(f"{KEYS}/{mine.id}", headers=owner)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:multitude:problem:last-owner-key")
    await make_key("owner")
    assert (await client.delete(f"{KEYS}/{mine.id}", headers=owner)).status_code == 204


async def test_two_owners_revoking_each_other_leave_one(
    client: httpx.AsyncClient, owner: Headers, make_key: MakeKey, database: Database
) -> None:
    other = await make_key("owner")
    mine, others = await stored(database, owner), await stored(database, other)
    answers = await asyncio.gather(
        client.delete(f"{KEYS}/{others.id}", headers=owner), client.delete(f"{KEYS}/{mine.id}", headers=other)
    )
    rows = [await stored(database, headers) for headers in (owner, other)]
    assert sum(row.revoked_at is None for row in rows) == 1
    assert min(answer.status_code for answer in answers) == 204


async def test_the_use_of_a_key_is_noted_to_the_minute(
    client: httpx.AsyncClient, analyst: Headers, database: Database
) -> None:
    row = await stored(database, analyst)
    assert row.last_used_at is None
    await client.get("/v1/campaigns", headers=analyst)
    first = (await stored(database, analyst)).last_used_at
    await client.get("/v1/campaigns", headers=analyst)
    assert first is not None
    assert (await stored(database, analyst)).last_used_at == first
    async with database.transaction() as session:
        earlier = first - timedelta(minutes=2)
        await session.execute(update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=earlier))
    await client.get("/v1/campaigns", headers=analyst)
    again = (await stored(database, analyst)).last_used_at
    assert again is not None
    assert again >= first
