"""What this room announces: consents given with a signature, and erasures; never by a name others could use."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.people.consents.service import Entry, enter
from app.people.personal_data import data_rights
from app.people.pseudonyms import person_id
from app.people.queries import movement_id
from app.settings import Settings
from tests.support.databases import run
from tests.support.factories import insert_petition
from tests.support.people_mails import AMINA
from tests.support.types import Headers, Json

Enter = Callable[..., Awaitable[None]]


async def said(database: Database, type_: str) -> list[tuple[UUID, Json]]:
    rows = await run(
        database, "SELECT organization_id, content FROM outbox_messages WHERE type = :type ORDER BY number", type=type_
    )
    return [(row.organization_id, row.content) for row in rows]


@pytest.fixture
async def petition_id(database: Database) -> UUID:
    return await insert_petition(database)


@pytest.fixture
def enter_of(database: Database, settings: Settings) -> Enter:
    """Enter what Amina says to an organization."""

    async def enter_(organization_id: UUID, *, given: bool = True, **more: Any) -> None:
        ring = settings.key_ring
        entry = Entry(ring.digest(AMINA), organization_id, "news", given, None, now(), **more)
        async with database.transaction() as session:
            await enter(session, ring, [entry])

    return enter_


async def test_a_consent_given_with_a_signature_is_announced_to_its_organization(
    database: Database, sisters: Organization, enter_of: Enter, petition_id: UUID
) -> None:
    await enter_of(sisters.id, petition_id=petition_id)
    await enter_of(sisters.id, petition_id=petition_id, given=False)
    await enter_of(sisters.id)
    ids = await run(database, "SELECT id FROM consents WHERE given AND petition_id IS NOT NULL")
    assert await said(database, "consent.given") == [(sisters.id, {"consent_id": str(ids[0][0])})]


async def test_an_entry_that_is_rolled_back_was_never_said(
    database: Database, settings: Settings, sisters: Organization, petition_id: UUID
) -> None:
    ring = settings.key_ring
    entry = Entry(ring.digest(AMINA), sisters.id, "news", True, None, now(), petition_id)

    async def enter_and_fail() -> None:
        async with database.transaction() as session:
            await enter(session, ring, [entry])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await enter_and_fail()
    assert await said(database, "consent.given") == []


async def test_an_erasure_is_announced_to_whom_somebody_agreed_and_to_who_brought_it(
    database: Database,
    client: httpx.AsyncClient,
    settings: Settings,
    sisters: Organization,
    enter_of: Enter,
    amina: Headers,
) -> None:
    async with database.transaction() as session:
        refused = Organization(slug="refused", name="Refused", kind="partner")
        brought = Organization(slug="brought", name="Brought", kind="partner")
        session.add_all([refused, brought])
        await session.flush()
        movement = await movement_id(session)
    await enter_of(movement, given=False, partner_id=brought.id)
    await enter_of(sisters.id)
    await enter_of(sisters.id, given=False)
    await enter_of(refused.id, given=False)
    before = now()
    answer = await client.post("/v1/me/erasure", json={"signatures": "withdraw"}, headers=amina)
    assert answer.status_code == 200
    told = dict(await said(database, "person.erased"))
    assert set(told) == {sisters.id, brought.id}
    signer = settings.key_ring.digest(AMINA)
    for organization_id, content in told.items():
        assert before <= datetime.fromisoformat(content.pop("at")) <= now()
        assert content == {"person_id": person_id(settings.key_ring, organization_id, signer), "signature_ids": []}
    assert len({content["person_id"] for content in told.values()}) == 2


async def test_an_erasure_is_announced_when_staff_do_it_and_not_when_it_fails(
    database: Database, client: httpx.AsyncClient, settings: Settings, sisters: Organization, enter_of: Enter,
    data_officer: Headers, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await enter_of(sisters.id)
    body = {"email": AMINA, "signatures": "keep"}

    async def fail(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as failing:
        failing.setattr(data_rights, "publish", fail)
        assert (await client.post("/v1/erasures", json=body, headers=data_officer)).status_code == 500
    assert len(await run(database, "SELECT 1 FROM consents")) == 1
    assert await said(database, "person.erased") == []
    for _ in range(2):
        assert (await client.post("/v1/erasures", json=body, headers=data_officer)).status_code == 200
    assert [organization_id for organization_id, _ in await said(database, "person.erased")] == [sisters.id]


def test_a_person_has_one_name_for_each_organization(settings: Settings) -> None:
    ring, one, two = settings.key_ring, uuid7(), uuid7()
    amina, grace = ring.digest(AMINA), ring.digest("grace@example.org")
    names = {person_id(ring, organization, signer) for organization in (one, two) for signer in (amina, grace)}
    assert len(names) == 4
    assert person_id(ring, one, amina) in names
    assert all(name.startswith("per_") and len(name) == 36 for name in names)
    assert not any(amina.hex() in name for name in names)
