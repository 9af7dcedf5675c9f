"""Attempts of one person stand side by side; one of them stands, and counts, by what is proven and by nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.engine import insert
from app.signatures.engine.attempts import MOST_WAITING
from app.signatures.engine.confirm import confirm
from app.signatures.engine.signings import Origin, Outcome, Signing
from app.signatures.engine.transitions import Confirmation, Erasure, Withdrawal
from app.signatures.schemas import ImportedSigning
from app.signatures.services import SigningServices
from app.signatures.signing.prepare import prepare
from tests.support.application import serving
from tests.support.attempts import attempt_id, link_of, own_id, prove, signer_of
from tests.support.databases import run
from tests.support.factories import insert_petition, people_like, person
from tests.support.invalidations import AT, apply_all, change_state, claimed_lane, insert_invalidation, prepared_signing
from tests.support.settings import RING
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json

AMINA = person(1, given_name="Amina", email="amina@example.org")
MALLORY = AMINA | {"given_name": "Mallory", "comment": "Not hers", "country": "FR"}
PARTNER, ANOTHER = UUID(int=7), UUID(int=8)
STANDING = "SELECT id, country, state, proven FROM signatures"
WAITING = "SELECT id FROM signature_attempts WHERE state <> 'withdrawn' ORDER BY id"

Sign = Callable[..., Awaitable[httpx.Response]]
Withdraw = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def room(served: Any) -> SigningServices:
    found: SigningServices = served.api.state.services.of(SigningServices)
    return found


@pytest.fixture
async def behind_a_proxy(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come through a proxy that is believed."""
    trusting = settings.model_copy(update={"trusted_proxies": ["127.0.0.0/8"]})
    async with serving(trusting) as (_, _, client):
        yield client


async def sign_from(client: httpx.AsyncClient, address: str, body: Json = AMINA) -> Json:
    answer = await client.post(f"{AT}/signatures", json=body, headers={"X-Forwarded-For": address})
    assert answer.status_code == 201, answer.text
    told: Json = answer.json()
    return told


async def exact_count(database: Database) -> int:
    """The count, once everything is proven to be of one mind."""
    return (await exact_counts(database))["end-the-ban"]


async def standing(database: Database) -> tuple[str, str, str, bool]:
    """The id, as its signer is told it, country and state of the attempt that stands, and whether it is proven."""
    ((id_, country, state, is_proven),) = await run(database, STANDING)
    return own_id(id_), country, state, bool(is_proven)


async def waiting(database: Database) -> list[str]:
    return [own_id(row.id) for row in await run(database, WAITING)]


def brought(petition_id: UUID, partner_id: UUID = PARTNER, body: Json = AMINA) -> Signing:
    return prepare(RING, petition_id, ImportedSigning.model_validate(body), now(), partner_id=partner_id)


async def bring(room: SigningServices, *signings: Signing) -> Sequence[Outcome]:
    return await room.engine.bulk.submit(list(signings))


async def commit(database: Database, signings: Iterable[Signing], origin: Origin = Origin.SIGNER) -> list[Outcome]:
    """One batch that came by this way."""
    async with claimed_lane(database) as lane:
        return (await insert.sign(lane, list(signings), origin)).outcomes


async def withdraw_own(room: SigningServices, petition_id: UUID) -> None:
    outcome = await room.engine.submit(Withdrawal(petition_id, signer_of(AMINA), None, proven=True))
    assert outcome is Outcome.WITHDRAWN


# What a stranger does in somebody's name.


async def test_nobody_who_signed_before_others_takes_their_signatures_away(
    sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database
) -> None:
    """Sign as twenty people, wait until they sign, withdraw by the old receipts."""
    crowd = people_like(20)
    strangers = [(await sign(body | {"country": "FR"})).json() for body in crowd]
    hers = [(await sign(body)).json() for body in crowd]
    assert await exact_count(database) == 20
    for one in strangers:
        await withdraw(one["receipt"])
        assert await exact_count(database) == 20
    rows = await run(database, "SELECT id, country, state FROM signatures")
    assert {(own_id(row.id), row.country, row.state) for row in rows} == {
        (one["id"], "UG", "confirmed") for one in hers
    }
    assert await waiting(database) == []
    for one in hers:
        await withdraw(one["receipt"])
    assert await exact_count(database) == 0


async def test_what_is_proven_stands_and_what_is_not_never_takes_its_place(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database,
    room: SigningServices,
) -> None:  # fmt: skip
    strangers = (await sign(MALLORY)).json()
    assert await standing(database) == (strangers["id"], "FR", "confirmed", False)
    hers = (await sign(AMINA)).json()
    assert await standing(database) == (strangers["id"], "FR", "confirmed", False), "nothing moves before the proof"
    await prove(client, petition_id, AMINA, hers)
    mine = (hers["id"], "UG", "confirmed", True)
    assert await standing(database) == mine
    assert await exact_count(database) == 1
    later = (await sign(MALLORY)).json()
    await bring(room, brought(petition_id, body=MALLORY))
    await commit(database, [prepared_signing(petition_id, MALLORY)], Origin.IMPORT)
    for receipt in (strangers["receipt"], later["receipt"], hers["receipt"]):
        await withdraw(receipt)
        assert await standing(database) == mine
        assert await exact_count(database) == 1
    assert await waiting(database) == [], "what is proven needs nobody to vouch for it"


@pytest.mark.parametrize("confirmation", ["none", "email"])
@pytest.mark.parametrize("origin", list(Origin))
async def test_the_next_stands_when_what_nobody_has_proven_is_withdrawn(
    client: httpx.AsyncClient, database: Database, origin: Origin, confirmation: str
) -> None:
    petition_id = await insert_petition(database, confirmation=confirmation)
    strangers = (await client.post(f"{AT}/signatures", json=MALLORY)).json()
    next_ = brought(petition_id) if origin is Origin.PARTNER else prepared_signing(petition_id, AMINA)
    await commit(database, [next_], origin)
    # An import counts at once; so it stands already where what it met waits for its mail.
    imported = origin is Origin.IMPORT and confirmation == "email"
    assert (await standing(database))[0] == (own_id(next_.id) if imported else strangers["id"])
    assert await exact_count(database) == (1 if confirmation == "none" or imported else 0)
    answer = await client.post(f"{AT}/withdrawals", json={"receipt": strangers["receipt"]})
    assert answer.status_code == 200
    state = "confirmed" if confirmation == "none" or imported else "pending"
    assert await standing(database) == (own_id(next_.id), "UG", state, False)
    assert await waiting(database) == []
    assert await exact_count(database) == (1 if state == "confirmed" else 0)
    await prove(client, petition_id, AMINA, next_.id)
    assert await standing(database) == (own_id(next_.id), "UG", "confirmed", True)
    assert await exact_count(database) == 1


async def test_the_latest_proof_holds_and_its_receipt_withdraws_all(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database
) -> None:
    first, second = [(await sign(AMINA | {"country": country})).json() for country in ("UG", "KE")]
    receipt = await prove(client, petition_id, AMINA, first)
    await prove(client, petition_id, AMINA, second)
    assert await standing(database) == (second["id"], "KE", "confirmed", True)
    # The link that was followed before changes nothing.
    await prove(client, petition_id, AMINA, first)
    assert await standing(database) == (second["id"], "KE", "confirmed", True)
    assert await exact_count(database) == 1
    # A receipt that was proven once takes back all, whatever was proven since.
    await withdraw(receipt)
    assert await exact_count(database) == 0
    assert await waiting(database) == []
    again = (await sign(AMINA)).json()
    assert await exact_count(database) == 0
    await prove(client, petition_id, AMINA, again)
    assert await exact_count(database) == 1


# How many wait.


async def test_eight_wait_at_the_most_and_of_the_client_that_has_most_the_oldest_gives_way(
    behind_a_proxy: httpx.AsyncClient, petition_id: UUID, database: Database
) -> None:
    client = behind_a_proxy
    await sign_from(client, "192.0.2.1", MALLORY)
    hers = await sign_from(client, "198.51.100.1")
    strangers = [await sign_from(client, "192.0.2.1", MALLORY) for _ in range(MOST_WAITING + 4)]
    left = await waiting(database)
    assert sorted(left) == sorted([hers["id"], *(one["id"] for one in strangers[-7:])])
    assert await exact_count(database) == 1
    # Those who have one each keep it, until there are eight of them.
    others = [await sign_from(client, f"192.0.2.{number}", MALLORY) for number in range(2, 8)]
    assert sorted(await waiting(database)) == sorted([hers["id"], strangers[-1]["id"], *(one["id"] for one in others)])
    again = await sign_from(client, "192.0.2.7", MALLORY)
    left = await waiting(database)
    assert (len(left), hers["id"] in left, again["id"] in left, others[-1]["id"] in left) == (8, True, True, False)
    gone = await client.post("/v1/confirmations", json={"token": link_of(petition_id, AMINA, strangers[0])})
    assert (gone.status_code, gone.json()["type"]) == (410, "urn:multitude:problem:signature-gone")
    await prove(client, petition_id, AMINA, hers)
    assert await standing(database) == (hers["id"], "UG", "confirmed", True)
    assert await exact_count(database) == 1


@pytest.mark.parametrize("meets", [True, False])
@pytest.mark.parametrize("first", [True, False])
async def test_many_of_one_client_in_one_batch_push_nobody_elses_out(
    petition_id: UUID, database: Database, meets: bool, first: bool
) -> None:
    hers = prepared_signing(petition_id, AMINA, address_digest=b"hers....")
    strangers = [prepared_signing(petition_id, MALLORY, address_digest=b"strange.") for _ in range(30)]
    if meets:
        await commit(database, [prepared_signing(petition_id, MALLORY, address_digest=b"strange.")])
    batch = [hers, *strangers] if first else [*strangers, hers]
    for _ in range(2):
        await commit(database, batch)
        kept = await run(database, "SELECT id FROM signatures UNION SELECT id FROM signature_attempts")
        assert (len(await waiting(database)), hers.id in {row.id for row in kept}) == (MOST_WAITING, True)
        assert await exact_count(database) == 1


# Taking back.


async def test_a_withdrawal_on_the_own_page_ends_all_and_only_a_proof_counts_afterwards(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database,
    room: SigningServices,
) -> None:  # fmt: skip
    hers = (await sign(AMINA)).json()
    await bring(room, brought(petition_id))
    await sign(MALLORY)
    await withdraw_own(room, petition_id)
    assert await exact_count(database) == 0
    assert await run(database, "SELECT 1 FROM signatures WHERE sealed <> ''") == []
    assert await run(database, "SELECT 1 FROM signature_attempts WHERE sealed <> ''") == []
    assert await bring(room, brought(petition_id, ANOTHER)) == [Outcome.WITHDRAWN]
    assert await commit(database, [prepared_signing(petition_id, AMINA)], Origin.IMPORT) == [Outcome.WITHDRAWN]
    for told in [(await sign(MALLORY)).json() for _ in range(2)]:
        assert (await standing(database))[2] != "confirmed"
        # Whoever withdraws what nobody has proven does not undo that she has taken back.
        await withdraw(told["receipt"])
    assert await bring(room, brought(petition_id, ANOTHER)) == [Outcome.WITHDRAWN]
    await sign(MALLORY)
    again = (await sign(AMINA)).json()
    assert await exact_count(database) == 0
    asked = "SELECT due_mail FROM signatures UNION ALL SELECT due_mail FROM signature_attempts WHERE state = 'pending'"
    assert await run(database, asked) == [("confirm_signature",)] * 2, "each is asked, though the petition asks nobody"
    gone = await client.post("/v1/confirmations", json={"token": link_of(petition_id, AMINA, hers)})
    assert gone.status_code == 410
    await prove(client, petition_id, AMINA, again)
    assert await standing(database) == (again["id"], "UG", "confirmed", True)
    assert await exact_count(database) == 1


@pytest.mark.parametrize("origin", [Origin.PARTNER, Origin.IMPORT])
@pytest.mark.parametrize("is_proven", [True, False])
async def test_who_has_withdrawn_is_brought_again_unless_they_have_proven_it(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database, origin: Origin,
    is_proven: bool,
) -> None:  # fmt: skip
    told = (await sign(AMINA)).json()
    await withdraw(await prove(client, petition_id, AMINA, told) if is_proven else told["receipt"])
    assert await exact_count(database) == 0
    again = [brought(petition_id) if origin is Origin.PARTNER else prepared_signing(petition_id, AMINA)]
    expected = [Outcome.WITHDRAWN] if is_proven else [Outcome.COUNTED]
    for _ in range(2):
        assert await commit(database, again, origin) == expected
        assert await exact_count(database) == (0 if is_proven else 1)


@pytest.mark.parametrize("way", ["receipt", "link", "own page"])
async def test_one_can_take_back_from_a_petition_that_was_removed(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database,
    room: SigningServices, way: str,
) -> None:  # fmt: skip
    told = (await sign(AMINA)).json()
    token = link_of(petition_id, AMINA, told)
    await run(database, "UPDATE petitions SET moderation = 'removed'")
    await room.directory.refresh("end-the-ban")
    assert (await client.get(AT)).status_code == 404
    assert (await withdraw("A" * 83)).json()["type"] == "urn:multitude:problem:petition-not-found"
    if way == "own page":
        await withdraw_own(room, petition_id)
    elif way == "link":
        assert (await client.post("/withdraw", data={"token": token})).status_code == 200
    else:
        assert (await withdraw(told["receipt"])).status_code == 200
    assert await exact_count(database) == 0
    assert await run(database, "SELECT octet_length(sealed) FROM signatures") == [(0,)]


# What staff do.


async def test_who_stands_is_invalidated_and_the_next_that_counts_stands_until_it_is_undone(
    client: httpx.AsyncClient, sign: Sign, petition_id: UUID, database: Database, campaigner: Headers
) -> None:
    strangers, hers = [attempt_id(petition_id, (await sign(body)).json()) for body in (MALLORY, AMINA)]
    await sign(person(2))
    # As staff of the version before could: so few cannot be drafted any more.
    view = {"id": await insert_invalidation(database, petition_id, countries=["FR"])}
    assert set(await apply_all(database, petition_id)) == {2}
    rows = "SELECT id, country, state FROM signatures WHERE signer = :signer"
    ((id_, *stands),) = await run(database, rows, signer=signer_of(AMINA))
    assert (id_, stands) == (hers, ["UG", "confirmed"])
    assert await run(database, "SELECT id, state FROM signature_attempts") == [(strangers, "invalidated")]
    await change_state(client, campaigner, view, "undo")
    assert set(await apply_all(database, petition_id)) == {2}
    assert await run(database, "SELECT id, state FROM signature_attempts") == [(strangers, "confirmed")]
    assert await exact_count(database) == 2


async def test_a_proven_attempt_that_is_restored_takes_its_place_again(
    client: httpx.AsyncClient, sign: Sign, petition_id: UUID, database: Database, campaigner: Headers
) -> None:
    strangers, hers = [attempt_id(petition_id, (await sign(body)).json()) for body in (MALLORY, AMINA)]
    await prove(client, petition_id, AMINA, hers)
    await sign(person(2, "FR"))
    # As staff of the version before could: so few cannot be drafted any more.
    view = {"id": await insert_invalidation(database, petition_id, countries=["UG"])}
    await apply_all(database, petition_id)
    assert await exact_count(database) == 2
    await change_state(client, campaigner, view, "undo")
    await apply_all(database, petition_id)
    assert await exact_count(database) == 2
    rows = "SELECT id, country, proven FROM signatures WHERE signer = :signer"
    assert await run(database, rows, signer=signer_of(AMINA)) == [(hers, "UG", True)]
    assert await waiting(database) == [own_id(strangers)]


async def test_all_attempts_a_rule_matches_are_invalidated_and_only_a_proof_counts_beside_them(
    client: httpx.AsyncClient, sign: Sign, petition_id: UUID, database: Database, campaigner: Headers
) -> None:
    for body in (MALLORY, MALLORY, person(2)):
        await sign(body)
    # As staff of the version before could: so few cannot be drafted any more.
    view = {"id": await insert_invalidation(database, petition_id, countries=["FR"])}
    assert (await apply_all(database, petition_id))[-1] == 1
    assert await run(database, "SELECT state FROM signature_attempts") == [("invalidated",)]
    hers = (await sign(AMINA)).json()
    assert await exact_count(database) == 1
    await prove(client, petition_id, AMINA, hers)
    assert await exact_count(database) == 2
    await change_state(client, campaigner, view, "undo")
    await apply_all(database, petition_id)
    assert await exact_count(database) == 2
    rows = "SELECT id FROM signatures WHERE signer = :signer"
    assert await run(database, rows, signer=signer_of(AMINA)) == [(attempt_id(petition_id, hers),)]


@pytest.mark.parametrize("confirmation", ["none", "email"])
@pytest.mark.parametrize("taken_back", [True, False])
async def test_attempts_on_hold_that_wait_are_released_too(
    client: httpx.AsyncClient, database: Database, room: SigningServices, campaigner: Headers, confirmation: str,
    taken_back: bool,
) -> None:  # fmt: skip
    petition_id = await insert_petition(database, confirmation=confirmation)
    if taken_back:
        await commit(database, [prepared_signing(petition_id, AMINA)])
        await withdraw_own(room, petition_id)
    held = [prepared_signing(petition_id, MALLORY, on_hold=True) for _ in range(3)]
    for one in held:
        await commit(database, [one])
    assert (await standing(database))[:3] == (own_id(held[0].id), "FR", "pending")
    assert await waiting(database) == [own_id(one.id) for one in held[1:]]
    due = "SELECT due_mail, held FROM signatures UNION ALL SELECT due_mail, held FROM signature_attempts"
    assert await run(database, due) == [(None, True)] * 3
    assert (await client.post(f"{AT}/held/release", headers=campaigner)).status_code == 200
    counts = await apply_all(database, petition_id)
    by_mail = taken_back or confirmation == "email"
    assert counts[-1] == (0 if by_mail else 1)
    assert await run(database, due) == [("confirm_signature" if by_mail else None, None)] * 3
    await prove(client, petition_id, AMINA, held[2].id)
    assert await exact_count(database) == 1


async def test_anonymizing_deletes_what_waits(
    client: httpx.AsyncClient, sign: Sign, petition_id: UUID, database: Database, room: SigningServices
) -> None:
    consents = [{"organization": "movement", "given": True}]
    for body in (AMINA, MALLORY, AMINA | {"consents": consents}):
        await sign(body)
    await bring(room, brought(petition_id))
    assert len(await waiting(database)) == 3
    await run(
        database,
        "UPDATE petitions SET state = 'closed', personal_data_until = (now() AT TIME ZONE 'UTC')::date",
    )
    assert set(await apply_all(database, petition_id)) == {1}
    assert await run(database, "SELECT 1 FROM signature_attempts") == []
    assert await run(database, "SELECT 1 FROM signatures WHERE sealed <> ''") == []


@pytest.mark.parametrize("keeping", [True, False])
@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_erasing_takes_all_attempts(
    client: httpx.AsyncClient, database: Database, room: SigningServices, confirmation: str, keeping: bool
) -> None:
    petition_id = await insert_petition(database, confirmation=confirmation)
    await commit(database, [prepared_signing(petition_id, body) for body in (AMINA, MALLORY, person(2), person(2))])
    await bring(room, brought(petition_id), brought(petition_id, ANOTHER))
    outcome = await room.engine.submit(Erasure(petition_id, signer_of(AMINA), keeping))
    assert outcome is Outcome.ERASED
    others = 1 if confirmation == "none" else 0
    assert await exact_count(database) == others * (2 if keeping else 1)
    rows = await run(database, "SELECT signer FROM signatures UNION ALL SELECT signer FROM signature_attempts")
    assert signer_of(AMINA) not in {row.signer for row in rows}
    assert [row.signer for row in rows].count(signer_of(person(2))) == 2


# Batches, and what is tried again.


@pytest.mark.parametrize("confirmation", ["none", "email"])
@pytest.mark.parametrize("origin", list(Origin))
async def test_a_batch_that_is_tried_again_is_answered_alike_and_changes_nothing(
    client: httpx.AsyncClient, database: Database, origin: Origin, confirmation: str
) -> None:
    petition_id = await insert_petition(database, confirmation=confirmation)
    await commit(database, [prepared_signing(petition_id, body) for body in (AMINA, person(2))])
    bodies = [MALLORY, person(3), person(3), person(4), MALLORY]
    partners = [PARTNER, PARTNER, ANOTHER, PARTNER, ANOTHER] if origin is Origin.PARTNER else [None] * 5
    batch = [
        prepared_signing(petition_id, body, partner_id=partner_id)
        for body, partner_id in zip(bodies, partners, strict=True)
    ]
    first = await commit(database, batch, origin)
    rows = "SELECT petition_id, signer, id, state, partner_id, imported FROM {} ORDER BY 1, 2, 3"
    before = [await run(database, rows.format(table)) for table in ("signatures", "signature_attempts")]
    count = await exact_count(database)
    kept = {(row.id, row.partner_id) for table in before for row in table}
    if origin is not Origin.IMPORT:
        assert {(one.id, one.signals.partner_id) for one in batch} <= kept, "each stands beside the others"
    for _ in range(2):
        assert await commit(database, batch, origin) == first
        assert [await run(database, rows.format(table)) for table in ("signatures", "signature_attempts")] == before
        assert await exact_count(database) == count


async def test_an_import_that_is_run_again_leaves_nothing_that_waits(petition_id: UUID, database: Database) -> None:
    for number in range(3):
        people = [prepared_signing(petition_id, body) for body in people_like(3)]
        outcomes = await commit(database, people, Origin.IMPORT)
        assert outcomes == [Outcome.DUPLICATE if number else Outcome.COUNTED] * 3
        assert await waiting(database) == []
        assert await exact_count(database) == 3


async def test_many_who_sign_confirm_and_withdraw_in_one_name_at_once_count_once(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, petition_id: UUID, database: Database
) -> None:
    answers = await asyncio.gather(*(sign(body) for body in [AMINA, MALLORY] * 4))
    told = [answer.json() for answer in answers]
    assert await exact_count(database) == 1
    assert len(await waiting(database)) == 7
    receipts = await asyncio.gather(*(prove(client, petition_id, AMINA, one) for one in told[:4]))
    assert await exact_count(database) == 1
    assert (await standing(database))[3] is True
    await asyncio.gather(*(withdraw(one["receipt"]) for one in told))
    assert await exact_count(database) == 1
    assert await waiting(database) != [], "what was proven stays until it is taken back by proof"
    await asyncio.gather(*map(withdraw, receipts))
    assert await exact_count(database) == 0
    assert await waiting(database) == []


async def test_a_confirmation_is_answered_alike_again_and_says_what_is_not_there(
    petition_id: UUID, database: Database
) -> None:
    signings = [prepared_signing(petition_id, body) for body in (AMINA, MALLORY)]
    await commit(database, signings)
    confirmations = [Confirmation(*one[:3]) for one in signings]
    unknown = Confirmation(petition_id, signings[0].signer, uuid7())
    async with claimed_lane(database) as lane:
        for expected in (Outcome.CONFIRMED, Outcome.DUPLICATE, Outcome.DUPLICATE):
            told = (await confirm(lane, [*confirmations, unknown])).outcomes
            assert told == [expected, expected, Outcome.NOTHING]
            assert (await standing(database))[:2] == (own_id(signings[1].id), "FR")
            assert await exact_count(database) == 1


# What is shown before it is proven.


async def test_the_page_shows_what_would_be_confirmed_with_a_box_for_each_consent_that_nobody_has_ticked(
    client: httpx.AsyncClient, sign: Sign, petition_id: UUID, database: Database
) -> None:
    await sign(AMINA)
    consents = [{"organization": "movement", "given": True}]
    strangers = (await sign(MALLORY | {"consents": consents, "postal_code": "256", "region": "Gulu"})).json()
    token = link_of(petition_id, AMINA, strangers)
    page = (await client.get(f"/confirm?token={token}", headers={"Accept-Language": "en"})).text
    for shown in ("Mallory", "Family1", "FR", "Gulu", "256", "Not hers", "End the ban", 'name="consent" value="0"'):
        assert shown in page
    assert "checked" not in page
    assert "Amina" not in page, "a link shows its own attempt"
    told = (await client.post("/v1/confirmations/preview", json={"token": token})).json()
    assert (told["status"], told["given_name"], told["comment"]) == ("unconfirmed", "Mallory", "Not hers")
    assert [(one["number"], one["organization"], one["given"]) for one in told["consents"]] == [(0, "movement", True)]
    assert await run(database, "SELECT 1 FROM signature_attempts WHERE proven") == []
    answer = await client.post("/confirm", data={"token": token, "consent": "0"})
    assert answer.status_code == 200
    assert await run(database, "SELECT id, accepted_consents FROM signatures") == [
        (attempt_id(petition_id, strangers), 1)
    ]
    page = (await client.get(f"/confirm?token={token}")).text
    assert "Mallory" not in page, "once it is proven, the link shows no more than that"
    assert await exact_count(database) == 1
