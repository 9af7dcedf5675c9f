"""Over a petition's limit: whoever signs too often from one address is told nothing, and counted when staff say so."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.engine import insert
from app.signatures.engine.lanes import claim
from app.signatures.engine.signings import Origin, Outcome, Signing
from app.signatures.me import service as own
from app.signatures.schemas import SigningBody
from app.signatures.signing.prepare import prepare
from tests.support.application import running_worker, serving
from tests.support.attempts import prove
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, people_like, person
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]

AT = "/v1/petitions/end-the-ban"


def prepared(ring: KeyRing, petition_id: UUID, people: list[Json]) -> list[Signing]:
    return [prepare(ring, petition_id, SigningBody.model_validate(body), now()) for body in people]


HELD = "SELECT count(*) FROM signatures WHERE state = 'pending' AND held"


async def sign(client: httpx.AsyncClient, body: Json, address: str | None = None) -> httpx.Response:
    headers = {"X-Forwarded-For": address} if address else {}
    answer = await client.post(f"{AT}/signatures", json=body, headers=headers)
    assert answer.status_code == 201
    return answer


@pytest.fixture
async def behind_a_proxy(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come through a proxy that is believed."""
    trusting = settings.model_copy(update={"trusted_proxies": ["127.0.0.0/8"]})
    async with serving(trusting) as (_, _, client):
        yield client


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_what_is_over_the_limit_looks_like_the_rest_and_does_not_count(
    client: httpx.AsyncClient, database: Database, confirmation: str
) -> None:
    await insert_petition(database, address_limit=3, confirmation=confirmation)
    answers = [await sign(client, body) for body in people_like(5)]
    assert len({(answer.json()["status"], *sorted(answer.headers)) for answer in answers}) == 1
    assert (await run(database, HELD))[0][0] == 2
    assert await exact_counts(database) == {"end-the-ban": 3 if confirmation == "none" else 0}
    rows = await run(database, "SELECT count(*) FROM signatures WHERE due_mail IS NOT NULL")
    assert rows[0][0] == (0 if confirmation == "none" else 3), "nobody who is held gets a mail"


async def test_only_who_signs_too_often_is_held(behind_a_proxy: httpx.AsyncClient, database: Database) -> None:
    await insert_petition(database, address_limit=2)
    for number, address in enumerate(
        ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
    ):
        await sign(behind_a_proxy, person(number), address)
    assert await exact_counts(database) == {"end-the-ban": 5}
    digests = await run(
        database, "SELECT count(DISTINCT address_digest), min(octet_length(address_digest)) FROM signatures"
    )
    assert tuple(digests[0]) == (3, 8), "two addresses of one household are one"


async def test_nobody_is_believed_who_names_an_address_without_being_trusted(
    client: httpx.AsyncClient, database: Database
) -> None:
    await insert_petition(database, address_limit=1)
    for number in range(3):
        await sign(client, person(number), f"192.0.2.{number}")
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_another_petition_and_a_petition_without_a_limit_do_not_care(
    client: httpx.AsyncClient, database: Database
) -> None:
    await insert_petition(database, address_limit=1)
    await insert_petition(database, "another", address_limit=1)
    await insert_petition(database, "free")
    for slug in ("another", "free", "free", "end-the-ban"):
        number = len(await run(database, "SELECT 1 FROM signatures"))
        answer = await client.post(f"/v1/petitions/{slug}/signatures", json=person(number))
        assert answer.status_code == 201
    assert await exact_counts(database) == {"another": 1, "end-the-ban": 1, "free": 2}


async def test_released_signatures_count_as_if_nothing_had_happened(
    client: httpx.AsyncClient, database: Database, settings: Settings, campaigner: Headers
) -> None:
    await insert_petition(database, address_limit=1)
    receipts = [(await sign(client, body)).json()["receipt"] for body in people_like(4)]
    await client.post(f"{AT}/withdrawals", json={"receipt": receipts[3]})
    shown = await client.get(f"{AT}/held", headers=campaigner)
    assert shown.json()["held_count"] == 2
    assert (await client.post(f"{AT}/held/release", headers=campaigner)).status_code == 200
    async with running_worker(settings):
        await wait_until(database, "SELECT release_held_before IS NULL FROM petitions")
    assert await exact_counts(database) == {"end-the-ban": 3}
    rows = await run(database, "SELECT state, count(*) FROM signatures GROUP BY state ORDER BY state")
    assert [tuple(row) for row in rows] == [("confirmed", 3), ("withdrawn", 1)]


async def test_the_limit_of_a_petition_is_shown_to_staff_alone(
    client: httpx.AsyncClient, database: Database, analyst: Headers
) -> None:
    await insert_petition(database, address_limit=7)
    assert (await client.get(AT, headers=analyst)).json()["address_limit"] == 7
    assert (await client.get(AT)).json()["address_limit"] is None


async def test_whoever_signs_themselves_takes_the_place_of_what_was_held_for_them(
    behind_a_proxy: httpx.AsyncClient, database: Database
) -> None:
    """An attacker over the limit goes through a list of other people's addresses."""
    await insert_petition(database, address_limit=1)
    for number in range(4):
        await sign(behind_a_proxy, person(number), "192.0.2.1")
    assert (await run(database, HELD))[0][0] == 3
    for number in (1, 2):
        await sign(behind_a_proxy, person(number), f"198.51.100.{number}")
    # The attacker cannot push them back.
    await sign(behind_a_proxy, person(1), "192.0.2.1")
    assert (await run(database, HELD))[0][0] == 1
    assert await run(database, "SELECT count(*) FROM signatures WHERE due_mail IS NOT NULL") == [(0,)]
    assert await exact_counts(database) == {"end-the-ban": 3}


async def test_whoever_signs_themselves_is_asked_by_mail_whatever_was_held_for_them(
    behind_a_proxy: httpx.AsyncClient, database: Database
) -> None:
    petition_id = await insert_petition(database, address_limit=1, confirmation="email")
    for number in range(4):
        await sign(behind_a_proxy, person(number), "192.0.2.1")
    hers = [await sign(behind_a_proxy, person(number), f"198.51.100.{number}") for number in (1, 2)]
    await sign(behind_a_proxy, person(1), "192.0.2.1")
    asked = await run(
        database, "SELECT id FROM signature_attempts WHERE due_mail = 'confirm_signature' AND held IS NULL"
    )
    assert {str(row.id) for row in asked} == {answer.json()["id"] for answer in hers}
    silent = """SELECT due_mail FROM signatures WHERE held
        UNION ALL SELECT due_mail FROM signature_attempts WHERE held"""
    assert await run(database, silent) == [(None,)] * 4
    assert await exact_counts(database) == {"end-the-ban": 0}
    await prove(behind_a_proxy, petition_id, person(1), hers[0].json()["id"])
    assert (await run(database, HELD))[0][0] == 2
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_an_import_takes_the_place_of_what_was_held(
    client: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    petition_id = await insert_petition(database, address_limit=1)
    for body in people_like(3):
        await sign(client, body)
    lane = await claim(database, settings.key_ring.fingerprint())
    paper = prepared(settings.key_ring, petition_id, people_like(3))
    outcomes = (await insert.sign(lane, paper, Origin.IMPORT)).outcomes
    again = (await insert.sign(lane, paper, Origin.IMPORT)).outcomes
    await lane.release()
    assert [outcome.value for outcome in outcomes] == ["duplicate", "counted", "counted"]
    assert set(again[1:]) == {Outcome.COUNTED}, "told again what was committed"
    assert await exact_counts(database) == {"end-the-ban": 3}


async def test_nobody_sees_on_their_own_page_that_they_are_held(
    client: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    await insert_petition(database, address_limit=1)
    for body in people_like(2):
        await sign(client, body)
    signer = settings.key_ring.digest("person.1@example.org")
    async with database.transaction() as session:
        (mine,) = await own.signatures_of(session, signer)
    assert mine.state == "confirmed"
