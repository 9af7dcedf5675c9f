"""Held signatures: accepted in silence, waiting until staff let them go on or invalidate them."""

import httpx
import pytest

from app.kit.database.session import Database
from app.signatures.background import runner
from app.signatures.engine import chunks
from app.signatures.engine.scan import ScanProgress
from tests.support.attempts import signer_of
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

LAST_RELEASED = "SELECT 1 FROM signatures WHERE signer = :last AND held IS NULL"


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 4)


async def held_count(client: httpx.AsyncClient, headers: Headers) -> int:
    answer = await client.get(f"{AT}/held", headers=headers)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["held_count"])


async def test_what_is_over_the_limit_is_held_and_released_as_if_nothing_had_happened(
    client: httpx.AsyncClient, database: Database, campaigner: Headers, analyst: Headers
) -> None:
    petition_id = await insert_petition(database, address_limit=2)
    answers = [await client.post(f"{AT}/signatures", json=person(number)) for number in range(12)]
    assert {answer.status_code for answer in answers} == {201}
    assert await exact_counts(database) == {"end-the-ban": 2}
    assert await held_count(client, analyst) == 10
    told = await client.post(f"{AT}/held/release", headers=campaigner)
    assert told.status_code == 200
    assert (told.json()["held_count"], told.json()["asked_count"], told.json()["releasing"]) == (10, 0, True)
    counts = await apply_all(database, petition_id)
    assert counts == sorted(counts)
    assert counts[-1] == 12
    shown = (await client.get(f"{AT}/held", headers=analyst)).json()
    assert (shown["held_count"], shown["releasing"]) == (0, False)


async def test_where_signatures_are_confirmed_by_mail_the_released_are_asked_to_confirm(
    client: httpx.AsyncClient, database: Database, campaigner: Headers
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    await sign_all(database, [prepared_signing(petition_id, person(number), on_hold=True) for number in range(6)])
    due = "SELECT count(*) FROM signatures WHERE due_mail = 'confirm_signature' AND mail_due_at IS NOT NULL"
    assert await run(database, due) == [(0,)]
    await client.post(f"{AT}/held/release", headers=campaigner)
    assert (await apply_all(database, petition_id))[-1] == 0
    assert await run(database, due) == [(6,)]
    assert await run(database, "SELECT DISTINCT state, held FROM signatures") == [("pending", None)]


async def test_who_is_held_later_stays_held(
    client: httpx.AsyncClient, database: Database, petition_id: object, campaigner: Headers
) -> None:
    (found,) = (await run(database, "SELECT id FROM petitions"))[0]
    await sign_all(database, [prepared_signing(found, person(1), on_hold=True)])
    await client.post(f"{AT}/held/release", headers=campaigner)
    await sign_all(database, [prepared_signing(found, person(2), on_hold=True)])
    # When somebody signed is kept to the second.
    last = "UPDATE signatures SET signed_at = signed_at + interval '1 s' WHERE signer = :signer"
    await run(database, last, signer=signer_of(person(2)))
    assert (await apply_all(database, found))[-1] == 1
    assert await held_count(client, campaigner) == 1
    assert await apply_all(database, found) == []


async def test_one_that_was_held_in_time_and_committed_late_is_released_too(
    client: httpx.AsyncClient, database: Database, campaigner: Headers
) -> None:
    petition_id = await insert_petition(database)
    people = [prepared_signing(petition_id, person(number), on_hold=True) for number in range(40)]
    await sign_all(database, people[:20])
    await client.post(f"{AT}/held/release", headers=campaigner)
    progress = ScanProgress()
    async with claimed_lane(database) as lane:
        # Until the last one of the first pass.
        while not await run(database, LAST_RELEASED, last=max(one.signer for one in people[:20])):
            assert await runner.run_chunk(lane, RING, progress)
        await sign_all(database, people[20:])
        while await runner.run_chunk(lane, RING, progress):
            continue
    assert await exact_counts(database) == {"end-the-ban": 40}


async def test_held_ones_are_invalidated_by_a_rule_and_no_longer_held(
    client: httpx.AsyncClient, database: Database, campaigner: Headers
) -> None:
    petition_id = await insert_petition(database)
    await sign_all(
        database, [prepared_signing(petition_id, person(number), on_hold=number < 20 or None) for number in range(22)]
    )
    view = await draft_invalidation(client, campaigner, held=True)
    assert view["dry_run"]["signature_count"] == view["dry_run"]["by_state"]["pending"]
    await change_state(client, campaigner, view, "apply")
    await apply_all(database, petition_id)
    assert await held_count(client, campaigner) == 0
    await client.post(f"{AT}/held/release", headers=campaigner)
    assert (await apply_all(database, petition_id))[-1] == 2
    # They were released under the invalidation: undoing it shows what they would be.
    await change_state(client, campaigner, view, "undo")
    assert (await apply_all(database, petition_id))[-1] == 22


async def test_staff_see_what_is_held_and_campaigners_release_it(
    client: httpx.AsyncClient, petition_id: object, analyst: Headers
) -> None:
    assert (await client.get(f"{AT}/held")).status_code == 401
    assert (await client.post(f"{AT}/held/release", headers=analyst)).status_code == 403
    assert (await client.get("/v1/petitions/nowhere/held", headers=analyst)).status_code == 404
