"""The same people posted again under another id: what stands stays, and its mail goes on confirming it."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.kit.problems import Problem
from app.organizations.models import Organization
from app.partners.inbound.fair_share import SLICE
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.ingest import ingest
from app.partners.inbound.items import NoSignature
from app.partners.inbound.services import InboundServices
from app.signatures.engine.bulk import BATCH_LIMIT
from tests.support.application import sweep
from tests.support.attempts import brought_id, told_id
from tests.support.databases import run
from tests.support.mailed_links import prove, token_of
from tests.support.partner_posts import Poster, item, lines, problem_slug
from tests.support.partners import PETITION, Partner
from tests.support.tallies import exact_counts

MOST_ITEMS = 10_000


@pytest.fixture
async def poster(client: httpx.AsyncClient, partnership: Partner, database: Database) -> Poster:
    """Whose signatures are confirmed by mail."""
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    return Poster(client, partnership)


async def _rows(database: Database) -> Sequence[Any]:
    return await run(
        database, "SELECT id, state, partner_id, sealed, consents_due, mail_due_at, due_mail FROM signatures"
    )


async def test_what_is_pending_is_not_replaced_by_its_own_partner_and_keeps_its_consents(
    poster: Poster, database: Database
) -> None:
    given = item(1, consents=[{"organization": poster.partner.slug, "given": True}])
    (first,) = await poster.bring(given)
    await run(database, "UPDATE signatures SET mail_due_at = NULL, mail_since = NULL, due_mail = NULL, mail_count = 1")
    before = await _rows(database)
    (again,) = await poster.bring(given)
    assert (first["status"], again["status"]) == ("pending", "duplicate")
    assert await _rows(database) == before
    # The link of the one mail there is.
    id_ = await brought_id(database, poster.partner.organization_id, first["signature_id"])
    await prove(poster.client, token_of(poster.partner.petition_id, given["email"], id_), [0])
    await sweep(database)
    ((organization_id, partner_id, proven),) = await run(
        database, "SELECT organization_id, partner_id, proven FROM consents"
    )
    assert organization_id == partner_id == poster.partner.organization_id
    assert proven
    assert [row.id for row in await _rows(database)] == [id_]
    assert await exact_counts(database) == {PETITION: 1}


async def test_somebody_twice_is_pending_once_wherever_a_batch_ends(poster: Poster, database: Database) -> None:
    items = [item(number) for number in range(BATCH_LIMIT + 3)]
    items[5] = items[2] | {"id": "crm:twin"}
    items[BATCH_LIMIT + 2] = items[2] | {"id": "crm:late-twin"}
    results = await poster.bring(*items)
    twins = [index for index, result in enumerate(results) if result["status"] == "duplicate"]
    assert twins == [5, BATCH_LIMIT + 2]
    assert {result["status"] for index, result in enumerate(results) if index not in twins} == {"pending"}
    ids = {result["signature_id"] for result in results if result["status"] == "pending"}
    assert ids == {told_id(poster.partner.organization_id, row.id) for row in await _rows(database)}


async def test_petitions_that_are_unknown_are_asked_for_together(
    served: Any, poster: Poster, database: Database
) -> None:
    asked = 0

    def note(*_: object) -> None:
        nonlocal asked
        asked += 1

    items = [item(number, f"unheard-of-{number}") for number in range(MOST_ITEMS)]
    engine = served.api.state.services.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    answer = await poster.post(lines(*items))
    event.remove(engine, "before_cursor_execute", note)
    assert answer.json()["refused"] == MOST_ITEMS
    assert problem_slug(answer.json()["results"][0]) == "petition-not-covered"
    assert asked < MOST_ITEMS / 10


async def test_after_each_item_that_takes_long_to_read_others_have_their_turn(
    served: Any, poster: Poster, database: Database
) -> None:
    reading, turns, seen = True, 0, set()

    async def others() -> None:
        nonlocal turns
        while reading:
            turns += 1
            await asyncio.sleep(0)

    def items() -> Iterator[Problem]:
        for _ in range(50):
            seen.add(turns)
            until = time.perf_counter() + SLICE
            while time.perf_counter() <= until:
                pass
            yield NoSignature([])

    async with database.transaction() as session:
        organization = await session.get_one(Organization, poster.partner.organization_id)
    task = asyncio.create_task(others())
    own = served.api.state.services.of(InboundServices)
    answer = await ingest(own, organization, Webhook(uuid7(), now()), items())
    reading = False
    await task
    assert json.loads(answer)["refused"] == 50
    assert len(seen) == 50


async def test_what_the_database_will_not_take_is_invalid_and_not_a_closed_petition(
    poster: Poster, database: Database
) -> None:
    await run(database, "ALTER TABLE signatures ADD CONSTRAINT short CHECK (octet_length(region) < 3)")
    try:
        taken, refused, other = await poster.bring(item(1), item(2, region="North"), item(3))
    finally:
        await run(database, "ALTER TABLE signatures DROP CONSTRAINT short")
    assert (taken["status"], other["status"]) == ("pending", "pending")
    assert problem_slug(refused) == "invalid"
    assert refused["problem"]["status"] == 422
