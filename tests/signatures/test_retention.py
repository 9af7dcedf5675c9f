"""When its day has come, the personal data of those without other consent is destroyed, and every tally stays."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from app.kit.clock import now
from app.kit.database.session import Database
from app.organizations import queries as organizations
from app.people.consents.service import Entry, enter
from app.settings import Settings
from app.signatures.background import consents, runner
from app.signatures.background.withdrawal_messages import WithdrawalMessages
from app.signatures.engine import chunks
from app.signatures.engine.signings import Origin
from app.signatures.engine.transitions import Withdrawal
from app.signatures.engine.withdraw import withdraw
from app.signatures.moderation.retention import RetentionMonitor
from tests.support.application import services_for
from tests.support.attempts import prove, signer_of
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import (
    AT,
    apply_all,
    change_state,
    claimed_lane,
    draft_invalidation,
    prepared_signing,
    sign_all,
)
from tests.support.settings import RING
from tests.support.tallies import exact_counts
from tests.support.types import Headers

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 4)


async def consent(database: Database, signers: list[bytes], *, given: bool = True) -> None:
    async with database.transaction() as session:
        movement = await organizations.find(session, "movement")
        assert movement is not None
        await enter(session, RING, [Entry(signer, movement.id, "news", given, None, now()) for signer in signers])


async def turn(database: Database, days: int, state: str = "closed") -> None:
    await run(
        database,
        "UPDATE petitions SET state = :state, personal_data_until = :day",
        state=state,
        day=(now() + days * DAY).date(),
    )


async def kept(database: Database) -> set[bytes]:
    """Signers whose personal data is there."""
    return {row[0] for row in await run(database, "SELECT signer FROM signatures WHERE sealed <> ''")}


async def look(client: httpx.AsyncClient, headers: Headers) -> Any:
    answer = await client.get(f"{AT}/retention", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_once_the_day_has_come_only_those_with_a_consent_are_kept(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, data_officer: Headers, campaigner: Headers
) -> None:
    people = [prepared_signing(petition_id, person(n, ("UG", "FR")[n % 2], region=f"R{n % 3}")) for n in range(20)]
    pending = [prepared_signing(petition_id, person(n), on_hold=True) for n in range(20, 24)]
    await sign_all(database, [*people, *pending])
    async with claimed_lane(database) as lane:
        await withdraw(lane, [Withdrawal(*one[:3]) for one in people[18:]])
    async with database.transaction() as session:
        await WithdrawalMessages(RING)(session)
    consenting = [one.signer for one in (*people[:3], pending[0])]
    await consent(database, [*consenting, people[5].signer])
    await consent(database, [people[5].signer], given=False)
    await turn(database, -1)
    told = await look(client, data_officer)
    assert told["would_destroy"] == {"confirmed": 15, "pending": 3, "withdrawn": 2}
    assert (told["would_keep_count"], told["destroyed_at"]) == (4, None)
    tallies = "SELECT dimension, key, sum(signature_count) FROM signature_tallies GROUP BY 1, 2 ORDER BY 1, 2"
    before = await run(database, tallies)
    assert set(await apply_all(database, petition_id)) == {18}
    assert await run(database, tallies) == before
    assert await kept(database) == set(consenting)
    rows = await run(database, "SELECT signer, id, address_digest, domain_digest FROM signatures WHERE sealed = ''")
    assert len(rows) == 15
    known = {one.signer for one in (*people, *pending)} | {one.id for one in (*people, *pending)}
    assert not known & {value for row in rows for value in row}
    assert {tuple(row[2:]) for row in rows} == {(None, None)}
    after = await look(client, data_officer)
    assert after["destroyed_at"] is not None
    assert (after["would_destroy"], after["would_keep_count"]) == ({}, 4)
    assert await exact_counts(database) == {"end-the-ban": 18}
    assert await apply_all(database, petition_id) == []
    assert (await client.post(f"{AT}/reopen", headers=campaigner)).status_code == 409


@pytest.mark.parametrize(
    ("days", "state", "destroys"), [(1, "closed", False), (0, "open", False), (0, "archived", True)]
)
async def test_nothing_is_destroyed_before_the_day_or_while_people_sign(
    database: Database, petition_id: UUID, days: int, state: str, destroys: bool
) -> None:
    people = [prepared_signing(petition_id, person(n)) for n in range(5)]
    await sign_all(database, people)
    await turn(database, days, state)
    assert bool(await apply_all(database, petition_id)) is destroys
    assert bool(await kept(database)) is not destroys


async def test_consents_that_staff_vouch_for_are_entered_first(
    database: Database, petition_id: UUID, client: httpx.AsyncClient
) -> None:
    yes, no = ([{"organization": "movement", "given": given}] for given in (True, False))
    people = [prepared_signing(petition_id, person(n, consents=yes if n < 3 else no)) for n in range(6)]
    await sign_all(database, [*people, prepared_signing(petition_id, person(100))], Origin.IMPORT)
    await turn(database, 0)
    assert await apply_all(database, petition_id) == []
    async with database.transaction() as session:
        assert len(await consents.ConsentRecorder(RING)(session)) == 6
    assert (await apply_all(database, petition_id))[-1] == 7
    assert await kept(database) == {one.signer for one in people[:3]}


async def test_proven_consents_are_entered_first_and_unproven_ones_keep_nothing(
    database: Database, petition_id: UUID, client: httpx.AsyncClient
) -> None:
    given = [{"organization": "movement", "given": True}]
    bodies = [person(n, consents=given) for n in range(4)]
    answers = [await client.post(f"{AT}/signatures", json=body) for body in bodies]
    # Somebody else signs as these two with a consent that they never prove.
    for body in bodies[1:3]:
        await client.post(f"{AT}/signatures", json=body)
    for body, answer in zip(bodies[:2], answers[:2], strict=True):
        await prove(client, petition_id, body, answer.json(), accepting=[0])
    await turn(database, 0)
    assert await apply_all(database, petition_id) == []
    async with database.transaction() as session:
        assert len(await consents.ConsentRecorder(RING)(session)) == 2
    assert (await apply_all(database, petition_id))[-1] == 4
    assert await kept(database) == {signer_of(body) for body in bodies[:2]}
    waiting = await run(database, "SELECT signer FROM signature_attempts")
    assert [row[0] for row in waiting] == [signer_of(bodies[1])], "of whoever consents, what waits is kept too"


async def watched(database: Database, monitor: RetentionMonitor) -> list[Any]:
    """What a look tells the log."""
    with capture_logs() as logs:
        async with database.transaction() as session:
            await monitor(session)
    return [(line["log_level"], line["event"], line["petition"], line["signatures"]) for line in logs]


async def test_a_petition_that_waits_for_consents_no_key_opens_is_told_once_an_hour(
    database: Database, petition_id: UUID
) -> None:
    others = [await insert_petition(database, "another"), await insert_petition(database, "running")]
    given = [{"organization": "movement", "given": True}]
    lost = [prepared_signing(id_, person(n, consents=given)) for n in range(3) for id_ in (petition_id, *others)]
    await sign_all(database, [*lost, prepared_signing(petition_id, person(100))], Origin.IMPORT)
    await run(database, "UPDATE signatures SET sealed = 'broken' WHERE consents_due")
    monitor = RetentionMonitor()
    assert await watched(database, RetentionMonitor()) == []
    await turn(database, 0)
    await run(database, "UPDATE petitions SET personal_data_until = NULL WHERE slug = 'another'")
    await run(database, "UPDATE petitions SET state = 'open' WHERE slug = 'running'")
    async with database.transaction() as session:
        await consents.ConsentRecorder(RING)(session)
    assert await apply_all(database, petition_id) == []
    told = [("warning", "retention waits for consents", str(petition_id), 3)]
    assert await watched(database, monitor) == told
    assert await watched(database, monitor) == []
    often = RetentionMonitor(every=timedelta(0))
    assert [await watched(database, often) for _ in range(2)] == [told, told]
    # As operators are told to, when the key is gone for good.
    await run(
        database,
        "UPDATE signatures SET consents_due = NULL WHERE petition_id = :id AND consents_due AND state = 'confirmed'",
        id=petition_id,
    )
    assert await watched(database, RetentionMonitor()) == []
    assert (await apply_all(database, petition_id))[-1] == 4
    assert not {one.signer for one in lost if one.petition_id == petition_id} & {
        row[0] for row in await run(database, "SELECT signer FROM signatures WHERE petition_id = :id", id=petition_id)
    }


async def test_the_worker_is_who_tells_it(database: Database, petition_id: UUID, settings: Settings) -> None:
    await sign_all(
        database,
        [prepared_signing(petition_id, person(1, consents=[{"organization": "movement", "given": True}]))],
        Origin.IMPORT,
    )
    await run(database, "UPDATE signatures SET sealed = 'broken'")
    await turn(database, 0)
    quick, ending = settings.model_copy(update={"sweep_seconds": 0.01}), asyncio.Event()
    with capture_logs() as logs:
        working = asyncio.create_task(runner.work(services_for(database, quick), ending))
        async with asyncio.timeout(60):
            while not logs:
                await run(database, "SELECT 1")
        ending.set()
        await working
    assert [line["event"] for line in logs] == ["retention waits for consents"]


async def test_an_invalidated_signature_is_destroyed_too_and_can_still_be_restored(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    given = [{"organization": "movement", "given": True}]
    people = [prepared_signing(petition_id, person(n, ("UG", "FR")[n % 2], consents=given)) for n in range(10)]
    await sign_all(database, people, Origin.IMPORT)
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    await apply_all(database, petition_id)
    await run(database, "UPDATE signatures SET consents_due = NULL WHERE state = 'confirmed'")
    await turn(database, 0)
    assert set(await apply_all(database, petition_id)) == {5}
    assert await kept(database) == set()
    assert Counter(row[0] for row in await run(database, "SELECT state FROM signatures")) == {
        "confirmed": 5,
        "invalidated": 5,
    }
    await change_state(client, campaigner, view, "undo")
    assert (await apply_all(database, petition_id))[-1] == 10


async def test_who_sets_the_day_and_who_answers_for_personal_data_see_what_would_go(
    client: httpx.AsyncClient,
    petition_id: UUID,
    campaigner: Headers,
    analyst: Headers,
    owner: Headers,
    data_officer: Headers,
) -> None:
    assert (await client.get(f"{AT}/retention", headers=analyst)).status_code == 403
    told = await look(client, owner)
    assert told == await look(client, campaigner) == await look(client, data_officer)
    assert told == {"personal_data_until": None, "destroyed_at": None, "would_destroy": {}, "would_keep_count": 0}
