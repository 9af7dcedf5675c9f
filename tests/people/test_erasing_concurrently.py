"""Erasing while the same person goes on: whatever came in between, nothing is left."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from sqlalchemy import text

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import run
from tests.support.people_mails import AMINA, Asked
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json

ROUNDS = 6


@pytest.mark.parametrize("choice", ["keep", "withdraw"])
async def test_whoever_writes_while_they_are_erased_leaves_nothing_behind(
    client: httpx.AsyncClient,
    sign: Callable[..., Awaitable[Json]],
    sign_in: Callable[..., Awaitable[Headers]],
    ask: Callable[..., Awaitable[Asked]],
    database: Database,
    settings: Settings,
    choice: str,
) -> None:
    for number in range(ROUNDS):
        email = f"amina.{number}@example.org"
        await sign(email)
        headers, waiting = await sign_in(email), await ask(email)
        consent = {"organization": "movement", "purpose": "phone", "given": True}
        answers = await asyncio.gather(
            client.post("/v1/me/consents", json=consent, headers=headers),
            client.patch("/v1/me", json={"given_name": "Amina"}, headers=headers),
            client.post("/v1/me/erasure", json={"signatures": choice}, headers=headers),
            client.post("/v1/sessions", json={"token": waiting.token, "binding": waiting.binding}),
            client.post("/v1/me/consents", json={**consent, "purpose": "news"}, headers=headers),
        )
        assert answers[2].status_code == 200
        assert {answer.status_code for answer in answers} <= {200, 201, 401, 403}
        signer = settings.key_ring.digest(email)
        for table in ("people", "consents", "sign_ins", "person_sessions", "mails", "signatures"):
            left = await run(database, f"SELECT 1 FROM {table} WHERE signer = :signer", signer=signer)
            assert (table, left) == (table, [])
    assert await exact_counts(database) == {"end-the-ban": ROUNDS if choice == "keep" else 0}


async def test_whoever_comes_back_begins_anew(
    client: httpx.AsyncClient,
    amina: Headers,
    sign: Callable[..., Awaitable[Json]],
    sign_in: Callable[..., Awaitable[Headers]],
    database: Database,
) -> None:
    await client.patch("/v1/me", json={"given_name": "Amina"}, headers=amina)
    await client.post("/v1/me/erasure", json={"signatures": "withdraw"}, headers=amina)
    await sign()
    again = await sign_in()
    me = (await client.get("/v1/me", headers=again)).json()
    assert (me["email"], me["given_name"]) == (AMINA, None)
    assert await exact_counts(database) == {"end-the-ban": 1}


async def reached(database: Database, count: int, other: asyncio.Task[httpx.Response] | None = None) -> None:
    """Wait until so many statements wait for a lock, or the other has ended without."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(60):
        while (await run(database, asked))[0][0] < count and not (other and other.done()):
            continue


async def test_a_consent_on_its_way_is_not_entered_behind_an_erasure(
    client: httpx.AsyncClient, amina: Headers, database: Database
) -> None:
    consent = {"organization": "movement", "given": True}
    async with database.transaction() as session:
        # Holds the consent up between being let in and being entered.
        await session.execute(text("LOCK TABLE consent_texts IN ACCESS EXCLUSIVE MODE"))
        entering = asyncio.create_task(client.post("/v1/me/consents", json=consent, headers=amina))
        await reached(database, 1)
        erasing = asyncio.create_task(client.post("/v1/me/erasure", json={"signatures": "keep"}, headers=amina))
        await reached(database, 2, erasing)
    assert (await entering).status_code == 201
    assert (await erasing).status_code == 200
    assert (
        await run(database, "SELECT 1 FROM consents UNION ALL SELECT 1 FROM mails UNION ALL SELECT 1 FROM people") == []
    )
