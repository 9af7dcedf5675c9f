"""Who is forgotten, for nothing of theirs is left to be kept for, and who is not."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import text

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.people.account.service import remember
from app.people.account.sessions import begin
from app.people.consents.service import Entry, enter
from app.people.personal_data.retention import forget_people
from app.people.sealing import Details
from app.settings import Settings
from tests.support.databases import run
from tests.support.people_mails import AMINA
from tests.support.types import Headers, Json

Sign = Callable[..., Awaitable[Json]]
SignIn = Callable[..., Awaitable[Headers]]

TIMES = ("looked_at", "updated_at")


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return settings.key_ring


@pytest.fixture
def signer(ring: KeyRing) -> bytes:
    return ring.digest(AMINA)


@pytest.fixture
async def known(database: Database, ring: KeyRing, signer: bytes) -> bytes:
    """Amina, of whom a row was made long ago and never touched since."""
    async with database.transaction() as session:
        await remember(session, ring, signer, email=AMINA)
    await age(database)
    return signer


async def age(database: Database, *times: str, days: int = 31) -> None:
    """Let so many days go by for everybody."""
    changes = ", ".join(f"{name} = {name} - make_interval(days => :days)" for name in times or TIMES)
    await run(database, f"UPDATE people SET {changes}", days=days)


async def forget(database: Database) -> list[bytes]:
    async with database.transaction() as session:
        return [*await forget_people(session)]


async def people(database: Database) -> list[bytes]:
    return [row[0] for row in await run(database, "SELECT signer FROM people ORDER BY 1")]


async def say(database: Database, ring: KeyRing, entry: Entry) -> None:
    async with database.transaction() as session:
        await enter(session, ring, [entry])


async def test_whom_there_is_no_reason_to_keep_is_forgotten_and_their_words_are_not(
    database: Database, ring: KeyRing, known: bytes, sisters: Organization
) -> None:
    for minutes, given in enumerate([True, False]):
        decided_at = now() + timedelta(minutes=minutes)
        await say(database, ring, Entry(known, sisters.id, "news", given, None, decided_at))
    assert await forget(database) == [known]
    assert await people(database) == []
    assert len(await run(database, "SELECT 1 FROM consents")) == 2


@pytest.mark.parametrize(("purpose", "proven"), [("news", True), ("news", False), ("phone", True)])
async def test_whose_consent_stands_is_kept(
    database: Database, ring: KeyRing, known: bytes, sisters: Organization, purpose: str, proven: bool
) -> None:
    await say(database, ring, Entry(known, sisters.id, purpose, True, None, now(), proven=proven))
    assert await forget(database) == []
    assert await people(database) == [known]


async def test_whose_phone_number_is_kept_is_kept_until_they_take_it_back(
    client: httpx.AsyncClient, database: Database, sign: Sign, sign_in: SignIn, signer: bytes
) -> None:
    await sign()
    me = await sign_in()
    word = {"organization": "movement", "purpose": "phone", "given": True}
    await client.post("/v1/me/consents", json=word, headers=me)
    await client.patch("/v1/me", json={"phone": "+256 772 123456"}, headers=me)
    await run(database, "UPDATE person_sessions SET expires_at = now()")
    await age(database)
    assert await forget(database) == []
    me = await sign_in()
    await client.post("/v1/me/consents", json=word | {"given": False}, headers=me)
    await run(database, "UPDATE person_sessions SET expires_at = now()")
    await age(database)
    assert await forget(database) == [signer]


async def test_who_is_signed_in_is_kept_until_they_are_not(database: Database, ring: KeyRing, known: bytes) -> None:
    async with database.transaction() as session:
        await begin(session, ring, known, Details(AMINA))
    assert await forget(database) == []
    await age(database, "looked_at")
    await run(database, "UPDATE person_sessions SET ended_at = now()")
    assert await forget(database) == [known]


async def test_who_changed_something_lately_is_kept(database: Database, known: bytes) -> None:
    await age(database, "updated_at", days=-31)
    assert await forget(database) == []
    assert await people(database) == [known]


async def test_who_is_kept_is_not_looked_at_again_for_as_long_and_nothing_of_theirs_changes(
    database: Database, ring: KeyRing, known: bytes, sisters: Organization
) -> None:
    await say(database, ring, Entry(known, sisters.id, "news", True, None, now()))
    before = await run(database, "SELECT sealed, created_at, updated_at FROM people")
    assert await forget(database) == []
    assert await run(database, "SELECT sealed, created_at, updated_at FROM people") == before
    later = Entry(known, sisters.id, "news", False, None, now() + timedelta(minutes=1))
    await say(database, ring, later)
    assert await forget(database) == []
    await age(database)
    assert await forget(database) == [known]


async def test_who_comes_back_while_they_are_forgotten_is_known_again(
    database: Database, ring: KeyRing, known: bytes, sisters: Organization
) -> None:
    async def come_back() -> None:
        async with database.transaction() as session:
            await remember(session, ring, known, email=AMINA, given_name="Amina")
            await enter(session, ring, [Entry(known, sisters.id, "news", True, None, now())])

    async with database.transaction() as session:
        # As it does before it asks for reasons: they come back between the two.
        await session.execute(text("SELECT 1 FROM people FOR UPDATE"))
        coming = asyncio.create_task(come_back())
        await _waits_for_a_lock(database)
        assert await forget_people(session) == [known]
    await coming
    assert await people(database) == [known]


async def test_who_is_coming_back_is_not_forgotten(
    database: Database, ring: KeyRing, known: bytes, sisters: Organization
) -> None:
    async with database.transaction() as session:
        await remember(session, ring, known, email=AMINA)
        await enter(session, ring, [Entry(known, sisters.id, "news", True, None, now())])
        assert await forget(database) == []
    assert await forget(database) == []
    assert await people(database) == [known]


async def _waits_for_a_lock(database: Database) -> None:
    question = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(60):
        while not await run(database, question):
            continue
