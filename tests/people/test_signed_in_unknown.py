"""Whoever signs in without being known: an empty page of their own, and no trace beyond the session."""

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from app.kit.database.session import Database
from app.organizations.models import Organization
from app.settings import Settings
from tests.support.databases import run
from tests.support.people_mails import AMINA
from tests.support.types import Headers, Json

Sign = Callable[..., Awaitable[Json]]
SignIn = Callable[..., Awaitable[Headers]]

NADIA = "nadia@example.org"


@pytest.fixture
async def nadia(sign_in: SignIn, petition: str) -> Headers:
    """Nadia, of whom nothing is kept, signed in."""
    assert petition
    return await sign_in(NADIA)


async def test_every_answer_is_that_of_somebody_of_whom_nothing_is_kept(
    client: httpx.AsyncClient, nadia: Headers
) -> None:
    """Fails where a stranger gets no link at all."""
    shown = await client.get("/v1/me", headers=nadia)
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    assert shown.json() == {
        "email": NADIA, "given_name": None, "family_name": None, "locale": None, "phone": None, "cell": None
    }  # fmt: skip
    assert (await client.get("/v1/me/consents", headers=nadia)).json() == {"items": [], "next_cursor": None}
    assert (await client.get("/v1/me/signatures", headers=nadia)).json() == {"items": []}
    assert len((await client.get("/v1/me/sessions", headers=nadia)).json()["items"]) == 1
    gone = await client.post("/v1/me/signatures/end-the-ban/withdraw", headers=nadia)
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:multitude:problem:signature-not-found")
    phone = await client.patch("/v1/me", json={"phone": "+256 772 123456"}, headers=nadia)
    assert (phone.status_code, phone.json()["type"]) == (409, "urn:multitude:problem:consent-needed")


async def test_the_download_holds_the_session_and_nothing_else(client: httpx.AsyncClient, nadia: Headers) -> None:
    taken = (await client.get("/v1/me/export", headers=nadia)).json()
    assert (taken["person"], taken["consents"], taken["waiting_mails"], taken["signatures"]) == (None, [], [], [])
    ((begun,), (asked,)) = taken["sessions"], taken["sign_ins"]
    assert (begun["email"], begun["ended_at"]) == (NADIA, None)
    assert asked["used_at"]
    assert asked["mailed_at"]


@pytest.mark.parametrize("known", [False, True])
async def test_nothing_outlives_the_session(
    client: httpx.AsyncClient, sign: Sign, sign_in: SignIn, database: Database, known: bool
) -> None:
    """Nor does a signer get a row for having signed in: it would tell the two apart."""
    if known:
        await sign(NADIA)
    me = await sign_in(NADIA)
    await client.get("/v1/me", headers=me)
    assert await run(database, "SELECT 1 FROM people UNION ALL SELECT 1 FROM consents") == []
    id_ = (await client.get("/v1/me/sessions", headers=me)).json()["items"][0]["id"]
    assert (await client.delete(f"/v1/me/sessions/{id_}", headers=me)).status_code == 204
    assert await run(database, "SELECT sealed FROM person_sessions") == [(None,)]
    assert await run(database, "SELECT 1 FROM people UNION ALL SELECT 1 FROM consents") == []


@pytest.mark.parametrize("choice", ["keep", "withdraw"])
async def test_erasing_leaves_nothing(
    client: httpx.AsyncClient, nadia: Headers, database: Database, settings: Settings, choice: str
) -> None:
    answer = await client.post("/v1/me/erasure", json={"signatures": choice}, headers=nadia)
    assert (answer.status_code, answer.json()) == (200, {"status": "erased"})
    tables = await run(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    rows = [await run(database, f"SELECT to_jsonb(t)::text FROM {name} AS t") for (name,) in tables]
    whole = json.dumps([row[0] for found in rows for row in found])
    assert settings.key_ring.digest(NADIA).hex() not in whole
    assert "nadia" not in whole
    assert (await client.get("/v1/me", headers=nadia)).status_code == 401
    assert await run(database, "SELECT 1 FROM outbox_messages") == [], "there is nobody to tell"


async def test_who_agrees_to_something_is_known_from_then_on(
    client: httpx.AsyncClient, nadia: Headers, sisters: Organization, data_officer: Headers, database: Database
) -> None:
    body = {"organization": sisters.slug, "given": False}
    assert (await client.post("/v1/me/consents", json=body, headers=nadia)).status_code == 201
    assert await run(database, "SELECT 1 FROM people") == [], "a refusal needs no address"
    assert (await client.post("/v1/me/consents", json=body | {"given": True}, headers=nadia)).status_code == 201
    movement = {"organization": "movement", "given": True}
    assert (await client.post("/v1/me/consents", json=movement, headers=nadia)).status_code == 201
    listed = await client.get("/v1/organizations/movement/people", headers=data_officer)
    assert [one["email"] for one in listed.json()["items"]] == [NADIA]


async def test_who_says_their_name_is_known_from_then_on(
    client: httpx.AsyncClient, nadia: Headers, sign_in: SignIn
) -> None:
    changed = await client.patch("/v1/me", json={"given_name": "Nadia"}, headers=nadia)
    assert (changed.json()["email"], changed.json()["given_name"]) == (NADIA, "Nadia")
    again = await sign_in(NADIA)
    assert (await client.get("/v1/me", headers=again)).json() == changed.json()


async def test_signing_in_tells_no_two_people_apart(
    client: httpx.AsyncClient, sign: Sign, sign_in: SignIn, database: Database
) -> None:
    await sign(AMINA)
    for email in (AMINA, NADIA):
        await sign_in(email)
    lengths = await run(database, "SELECT DISTINCT octet_length(sealed) FROM person_sessions")
    assert len(lengths) == 1
