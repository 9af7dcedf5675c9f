"""Many signatures at once: brought through a queue of their own, as often as one likes, and counted once."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.signatures.engine.signings import Outcome, Signing
from app.signatures.schemas import ImportedSigning
from app.signatures.services import SigningServices
from app.signatures.signing.prepare import prepare
from tests.support.attempts import attempt_id, link_of, prove
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.tallies import exact_counts

PARTNER, ANOTHER = UUID(int=7), UUID(int=8)


@pytest.fixture
def room(served: Any) -> SigningServices:
    room: SigningServices = served.api.state.services.of(SigningServices)
    return room


def prepared(
    room: SigningServices, petition_id: UUID, people: Sequence[int], partner_id: UUID = PARTNER, **more: Any
) -> list[Signing]:
    """These people's signatures, as a partner brings them."""
    bodies = [ImportedSigning.model_validate(person(number, **more)) for number in people]
    return [prepare(room.ring, petition_id, body, now(), partner_id=partner_id) for body in bodies]


async def test_bringing_the_same_again_answers_the_same_and_counts_nothing(
    room: SigningServices, database: Database
) -> None:
    signings = prepared(room, await insert_petition(database), range(10))
    first = await room.engine.bulk.submit(signings)
    assert first == [Outcome.COUNTED] * 10
    assert await room.engine.bulk.submit(signings) == first
    assert await exact_counts(database) == {"end-the-ban": 10}


async def test_the_same_people_under_other_ids_are_duplicates(room: SigningServices, database: Database) -> None:
    petition_id = await insert_petition(database)
    await room.engine.bulk.submit(prepared(room, petition_id, range(3)))
    assert await room.engine.bulk.submit(prepared(room, petition_id, [2, 3])) == [Outcome.DUPLICATE, Outcome.COUNTED]
    assert await exact_counts(database) == {"end-the-ban": 4}


@pytest.mark.parametrize("by", ["the receipt of a confirmation", "a mailed link"])
async def test_whoever_has_proven_that_they_withdraw_is_not_brought_back(
    room: SigningServices, client: httpx.AsyncClient, database: Database, by: str
) -> None:
    petition_id = await insert_petition(database)
    signings = prepared(room, petition_id, [1])
    signed = (await client.post("/v1/petitions/end-the-ban/signatures", json=person(1))).json()
    receipt = link_of(petition_id, person(1), signed)
    if by == "the receipt of a confirmation":
        receipt = await prove(client, petition_id, person(1), signed)
    await client.post(signed["links"]["withdraw"], json={"receipt": receipt})
    assert await room.engine.bulk.submit(signings) == [Outcome.WITHDRAWN]
    assert await room.engine.bulk.submit(signings) == [Outcome.WITHDRAWN]
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_a_withdrawal_that_nobody_has_proven_keeps_nobody_from_being_brought(
    room: SigningServices, client: httpx.AsyncClient, database: Database
) -> None:
    """A stranger signs as others and withdraws, to plant rows that keep partners from bringing them."""
    petition_id = await insert_petition(database)
    signings = prepared(room, petition_id, [1])
    signed = (await client.post("/v1/petitions/end-the-ban/signatures", json=person(1))).json()
    await client.post(signed["links"]["withdraw"], json={"receipt": signed["receipt"]})
    assert await exact_counts(database) == {"end-the-ban": 0}
    assert await room.engine.bulk.submit(signings) == [Outcome.COUNTED]
    assert await room.engine.bulk.submit(signings) == [Outcome.COUNTED]
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_whoever_withdraws_after_they_were_brought_stays_withdrawn(
    room: SigningServices, database: Database
) -> None:
    signings = prepared(room, await insert_petition(database), [1])
    await room.engine.bulk.submit(signings)
    await run(database, "UPDATE signatures SET state = 'withdrawn', sealed = ''")
    assert await room.engine.bulk.submit(signings) == [Outcome.WITHDRAWN]
    assert [row.state for row in await run(database, "SELECT state FROM signatures")] == ["withdrawn"]


async def test_those_who_are_asked_to_confirm_are_pending_and_nobody_is_reminded(
    room: SigningServices, database: Database
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    signings = prepared(room, petition_id, [1])
    assert await room.engine.bulk.submit(signings) == [Outcome.PENDING]
    await run(database, "UPDATE signatures SET state = 'confirmed', due_mail = NULL, mail_due_at = NULL")
    assert await room.engine.bulk.submit(prepared(room, petition_id, [1])) == [Outcome.DUPLICATE]
    assert (await run(database, "SELECT due_mail FROM signatures"))[0].due_mail is None


async def test_one_that_the_database_will_not_take_costs_no_neighbour(
    room: SigningServices, database: Database
) -> None:
    signings = prepared(room, await insert_petition(database), range(5))
    signings[2] = signings[2]._replace(tally_keys=signings[2].tally_keys._replace(source="a\0b"))
    outcomes = await room.engine.bulk.submit(signings)
    assert outcomes == [*[Outcome.COUNTED] * 2, Outcome.INVALID, *[Outcome.COUNTED] * 2]
    assert await exact_counts(database) == {"end-the-ban": 4}


async def test_a_closed_petition_refuses_all_but_what_it_has_taken_already(
    room: SigningServices, database: Database
) -> None:
    petition_id = await insert_petition(database)
    taken, late = prepared(room, petition_id, [1]), prepared(room, petition_id, [2])
    await room.engine.bulk.submit(taken)
    await run(database, "UPDATE petitions SET state = 'closed', closes_at = now()")
    assert await room.engine.bulk.submit([*taken, *late]) == [Outcome.COUNTED, Outcome.REFUSED]


async def test_who_brought_a_signature_and_how_they_know_it_is_kept(room: SigningServices, database: Database) -> None:
    petition_id = await insert_petition(database)
    body, id_ = ImportedSigning.model_validate(person(1)), uuid7()
    signing = prepare(room.ring, petition_id, body, now(), partner_id=PARTNER, id_=id_, reference="crm:4711")
    await room.engine.bulk.submit([signing])
    row = (await run(database, "SELECT id, partner_id, sealed FROM signatures"))[0]
    assert (row.id, row.partner_id) == (id_, PARTNER)
    assert b"crm:4711" not in row.sealed


async def test_what_is_pending_stays_as_its_own_partner_brought_it_first(
    room: SigningServices, database: Database
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    first = prepared(room, petition_id, [1])
    assert await room.engine.bulk.submit(first) == [Outcome.PENDING]
    assert await room.engine.bulk.submit(prepared(room, petition_id, [1])) == [Outcome.DUPLICATE]
    assert await room.engine.bulk.submit(first) == [Outcome.PENDING]
    assert [row.id for row in await run(database, "SELECT id FROM signatures")] == [first[0].id]


async def test_what_is_pending_stands_beside_what_another_partner_brings_and_who_signs_here(
    room: SigningServices, client: httpx.AsyncClient, database: Database
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    first, second = (prepared(room, petition_id, [1], partner) for partner in (PARTNER, ANOTHER))
    for signings in (first, second):
        assert await room.engine.bulk.submit(signings) == [Outcome.PENDING]
    signed = (await client.post("/v1/petitions/end-the-ban/signatures", json=person(1))).json()
    standing = "SELECT id, partner_id, state FROM signatures"
    waiting = "SELECT id, partner_id, state, due_mail FROM signature_attempts ORDER BY id"

    async def stand() -> None:
        assert await run(database, standing) == [(first[0].id, PARTNER, "pending")]
        assert await run(database, waiting) == [
            (second[0].id, ANOTHER, "pending", "confirm_signature"),
            (attempt_id(petition_id, signed), None, "pending", "confirm_signature"),
        ]

    await stand()
    # Of each partner the first is kept, and it is told the same however often it brings it.
    for partner in (PARTNER, ANOTHER):
        assert await room.engine.bulk.submit(prepared(room, petition_id, [1], partner)) == [Outcome.DUPLICATE]
    for signings in (first, second):
        assert await room.engine.bulk.submit(signings) == [Outcome.PENDING]
    await stand()
    # The link of one of them proves that one, and no other.
    await prove(client, petition_id, person(1), second[0].id)
    assert await run(database, standing) == [(second[0].id, ANOTHER, "confirmed")]
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_many_who_bring_one_each_share_transactions_and_each_is_answered(
    room: SigningServices, database: Database
) -> None:
    signings = prepared(room, await insert_petition(database), range(300))
    signings[7] = signings[7]._replace(tally_keys=signings[7].tally_keys._replace(source="a\0b"))
    # The very same twice is no duplicate, be it in one transaction.
    signings.insert(20, signings[20]._replace())
    outcomes = await asyncio.gather(*(room.engine.bulk.submit([one]) for one in signings))
    assert [number for number, outcome in enumerate(outcomes) if outcome != [Outcome.COUNTED]] == [7]
    assert outcomes[7] == [Outcome.INVALID]
    assert await exact_counts(database) == {"end-the-ban": 299}
    ((transactions,),) = await run(database, "SELECT count(DISTINCT xmin::text) FROM signatures")
    assert transactions < 30


async def test_large_and_small_parts_take_turns(room: SigningServices, database: Database) -> None:
    petition_id = await insert_petition(database)
    large = [prepared(room, petition_id, range(start, start + 100)) for start in (0, 50, 100)]
    small = [prepared(room, petition_id, [number]) for number in range(0, 220, 20)]
    outcomes = await asyncio.gather(*(room.engine.bulk.submit(part) for part in [*large, *small]))
    told = [outcome for part in outcomes for outcome in part]
    assert told.count(Outcome.COUNTED) == 201
    assert set(told) == {Outcome.COUNTED, Outcome.DUPLICATE}
    assert await exact_counts(database) == {"end-the-ban": 201}
