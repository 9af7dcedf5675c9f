"""Over a limit: whoever signs too often from one address is told nothing, and does not count unproven.

They are asked to confirm by mail where that is possible. The mails have a limit too; what is over that is held.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.kit.abuse.rate_limits import Limiter, MemoryStorage
from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.petitions.models import NO_ADDRESS_LIMIT
from app.settings import Settings
from app.signatures.background.mails import SignatureMails
from app.signatures.engine import insert
from app.signatures.engine.lanes import claim
from app.signatures.engine.signings import Origin, Outcome, Signing
from app.signatures.me import service as own
from app.signatures.schemas import SigningBody
from app.signatures.signing.prepare import prepare
from tests.support.application import running_worker, serving
from tests.support.attempts import own_id, prove
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, people_like, person
from tests.support.people_mails import TEMPLATES, Postman, token_in
from tests.support.settings import RING
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]

AT = "/v1/petitions/end-the-ban"


def prepared(ring: KeyRing, petition_id: UUID, people: list[Json]) -> list[Signing]:
    return [prepare(ring, petition_id, SigningBody.model_validate(body), now()) for body in people]


HELD = "SELECT count(*) FROM signatures WHERE state = 'pending' AND held"
ASKED = "SELECT count(*) FROM signatures WHERE state = 'pending' AND due_mail = 'confirm_signature'"


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


@pytest.mark.parametrize(
    ("confirmation", "can_mail", "counted", "asked", "held"),
    [
        ("none", False, 3, 0, 9),
        ("none", True, 3, 5, 4),
        # None counts unproven, so only the mails are limited.
        ("email", False, 0, 5, 7),
        ("email", True, 0, 5, 7),
    ],
)
async def test_what_is_over_the_limit_looks_like_the_rest_and_does_not_count(
    settings: Settings,
    database: Database,
    tmp_path: Path,
    confirmation: str,
    can_mail: bool,
    counted: int,
    asked: int,
    held: int,
) -> None:
    chosen = {"address_mails": 5, "outbox_dir": tmp_path if can_mail else None}
    async with serving(settings.model_copy(update=chosen)) as (_, _, client):
        await insert_petition(database, address_limit=3, confirmation=confirmation)
        answers = [await sign(client, body) for body in people_like(12)]
        again = await sign(client, person(11))
    assert len({(a.json()["status"], len(a.content), *sorted(a.headers)) for a in [*answers, again]}) == 1
    assert await exact_counts(database) == {"end-the-ban": counted}
    assert (await run(database, ASKED))[0][0] == asked
    assert (await run(database, HELD))[0][0] == held
    mailed = await run(database, "SELECT 1 FROM signatures WHERE held AND due_mail IS NOT NULL")
    assert mailed == [], "nobody who is held gets a mail"


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
    settings: Settings, database: Database
) -> None:
    await insert_petition(database, address_limit=1)
    await insert_petition(database, "another", address_limit=1)
    await insert_petition(database, "free", address_limit=NO_ADDRESS_LIMIT)
    async with serving(settings.model_copy(update={"address_limit": 1})) as (_, _, client):
        await sign_each(client, database, ("another", "free", "free", "end-the-ban"))


async def sign_each(client: httpx.AsyncClient, database: Database, slugs: Sequence[str]) -> None:
    for slug in slugs:
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


@pytest.mark.parametrize(
    ("kept", "shown"), [(7, 7), (None, None), (NO_ADDRESS_LIMIT, "none")], ids=["a number", "the default", "none"]
)
async def test_the_limit_of_a_petition_is_shown_to_staff_alone(
    client: httpx.AsyncClient, database: Database, analyst: Headers, kept: int | None, shown: object
) -> None:
    await insert_petition(database, address_limit=kept)
    assert (await client.get(AT, headers=analyst)).json()["address_limit"] == shown
    assert (await client.get(AT)).json()["address_limit"] is None


async def test_that_there_is_no_limit_is_said_in_words(
    client: httpx.AsyncClient, database: Database, campaigner: Headers
) -> None:
    await insert_petition(database, address_limit=None)
    for said, status in (("none", 200), ("no", 422), (0, 422), (2**31 - 1, 422), (30, 200), (None, 200)):
        answer = await client.patch(AT, json={"address_limit": said}, headers=campaigner)
        assert answer.status_code == status, said
        if status == 200:
            assert answer.json()["address_limit"] == said


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
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    petition_id = await insert_petition(database, confirmation="email", address_limit=None)
    update = {"outbox_dir": tmp_path, "trusted_proxies": ["127.0.0.0/8"], "address_mails": 1}
    async with serving(settings.model_copy(update=update)) as (_, _, client):
        for number in range(4):
            await sign(client, person(number), "192.0.2.1")
        hers = [await sign(client, person(number), f"198.51.{number}.1") for number in (1, 2)]
        await sign(client, person(1), "192.0.2.1")
        await _asked_and_proven(client, database, petition_id, hers)


async def _asked_and_proven(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, hers: list[httpx.Response]
) -> None:
    asked = await run(
        database, "SELECT id FROM signature_attempts WHERE due_mail = 'confirm_signature' AND held IS NULL"
    )
    assert {own_id(row.id) for row in asked} == {answer.json()["id"] for answer in hers}
    silent = """SELECT due_mail FROM signatures WHERE held
        UNION ALL SELECT due_mail FROM signature_attempts WHERE held"""
    assert await run(database, silent) == [(None,)] * 4
    assert await exact_counts(database) == {"end-the-ban": 0}
    await prove(client, petition_id, person(1), hers[0].json())
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
        (mine,) = await own.signatures_of(session, RING, signer)
    assert mine.state == "confirmed"


async def burst(client: httpx.AsyncClient, people: Sequence[Json], address: str) -> set[str]:
    """They all sign at once, from one address; the states they are told."""
    return {answer.json()["status"] for answer in await asyncio.gather(*(sign(client, p, address) for p in people))}


async def test_five_hundred_false_signatures_from_one_address_count_as_few_as_the_default_says(
    behind_a_proxy: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    """Fails where a petition without a limit of its own has none: all 500 counted."""
    await insert_petition(database, address_limit=None)
    assert await burst(behind_a_proxy, people_like(500), "192.0.2.1") == {"confirmed"}
    assert settings.address_limit == 50
    assert await exact_counts(database) == {"end-the-ban": 50}
    assert (await run(database, HELD))[0][0] == 450
    # Others of the same network count: its limit is not used up by what one of them was refused.
    assert await burst(behind_a_proxy, people_like(5, lambda n: person(n + 500)), "192.0.2.2") == {"confirmed"}
    assert await exact_counts(database) == {"end-the-ban": 55}


@pytest.mark.parametrize("network", ["2001:db8:1:{:x}::1", "192.0.2.{}"])
async def test_a_network_has_a_limit_too(settings: Settings, database: Database, network: str) -> None:
    """Fails where every /64 of a /48, and every address of a /24, has a limit of its own and nothing else."""
    chosen = settings.model_copy(update={"address_limit": 2, "trusted_proxies": ["127.0.0.0/8"]})
    await insert_petition(database, address_limit=None)
    async with serving(chosen) as (_, _, client):
        for number in range(30):
            await sign(client, person(number), network.format(number))
        assert await exact_counts(database) == {"end-the-ban": 16}
        await sign(client, person(99), "198.51.100.1")
    assert await exact_counts(database) == {"end-the-ban": 17}


@pytest.mark.parametrize(("confirmation", "at_once"), [("email", 0), ("none", 50)])
async def test_a_class_of_three_hundred_behind_one_address_signs_and_confirms(
    settings: Settings, database: Database, tmp_path: Path, confirmation: str, at_once: int
) -> None:
    """Fails where what is over the limit is held until staff release it."""
    await insert_petition(database, address_limit=None, confirmation=confirmation)
    async with serving(settings.model_copy(update={"outbox_dir": tmp_path})) as (_, _, client):
        await burst(client, people_like(300), "192.0.2.1")
        assert await exact_counts(database) == {"end-the-ban": at_once}
        source = SignatureMails(database, settings, TEMPLATES, Limiter(MemoryStorage()))  # type: ignore[arg-type]
        mails = await Postman(source).bring()  # type: ignore[arg-type]
        while brought := await Postman(source).bring():  # type: ignore[arg-type]
            mails += brought
        assert len(mails) == 300 - at_once
        for mail in mails:
            assert (await client.post("/v1/confirmations", json={"token": token_in(mail)})).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 300}
    assert await run(database, "SELECT 1 FROM signatures WHERE held IS NOT NULL") == []


async def test_mails_that_one_address_causes_are_limited_over_all_petitions(
    settings: Settings, database: Database
) -> None:
    slugs = [f"petition-{number}" for number in range(3)]
    for slug in slugs:
        await insert_petition(database, slug, address_limit=None, confirmation="email")
    async with serving(settings.model_copy(update={"address_mails": 4})) as (_, _, client):
        for number, slug in enumerate(slugs * 3):
            assert (await client.post(f"/v1/petitions/{slug}/signatures", json=person(number))).status_code == 201
    assert (await run(database, ASKED))[0][0] == 4
    assert (await run(database, HELD))[0][0] == 5


async def test_staff_release_whoever_was_asked_to_confirm_as_well(
    settings: Settings, database: Database, tmp_path: Path, campaigner: Headers
) -> None:
    await insert_petition(database, address_limit=1)
    chosen = settings.model_copy(update={"outbox_dir": tmp_path, "address_mails": 3})
    async with serving(chosen) as (_, _, client):
        for body in people_like(6):
            await sign(client, body)
        told = (await client.post(f"{AT}/held/release", headers=campaigner)).json()
    assert (told["held_count"], told["asked_count"]) == (2, 3)
    async with running_worker(settings):
        await wait_until(database, "SELECT release_held_before IS NULL FROM petitions")
    assert await exact_counts(database) == {"end-the-ban": 6}
    assert (await run(database, ASKED))[0][0] == 0


async def test_whether_somebody_is_asked_by_mail_does_not_tell_whether_they_had_signed(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """Over the limit everybody has a mail, each time: who had signed, who was asked before, and who is new."""
    chosen = settings.model_copy(update={"outbox_dir": tmp_path, "trusted_proxies": ["127.0.0.0/8"]})
    await insert_petition(database, address_limit=1)
    async with serving(chosen) as (_, _, client):
        await sign(client, person(0), "198.51.100.1")
        await sign(client, person(9), "192.0.2.1")
        await sign(client, person(1), "192.0.2.1")
        await run(database, "UPDATE signatures SET due_mail = NULL, mail_due_at = NULL, mail_since = NULL")
        told = [await sign(client, person(number), "192.0.2.1") for number in range(3)]
    assert len({(a.json()["status"], len(a.content)) for a in told}) == 1
    due = """SELECT due_mail, count(*) FROM (
        SELECT due_mail FROM signatures UNION ALL SELECT due_mail FROM signature_attempts
    ) AS every WHERE due_mail IS NOT NULL GROUP BY 1"""
    assert await run(database, due) == [("confirm_signature", 3)], "in the same words, too"
    assert await exact_counts(database) == {"end-the-ban": 2}, "who had signed still counts"


async def test_nobody_who_is_held_takes_the_place_of_whom_a_mail_waits_for(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    await insert_petition(database, address_limit=1)
    chosen = settings.model_copy(update={"outbox_dir": tmp_path, "address_mails": 1})
    async with serving(chosen) as (_, _, client):
        await sign(client, person(0))
        await sign(client, person(1))
        before = await run(database, "SELECT id, held FROM signatures ORDER BY signer")
        for number in (1, 0):
            await sign(client, person(number))
    assert await run(database, "SELECT id, held FROM signatures ORDER BY signer") == before
    assert (await run(database, ASKED))[0][0] == 1


async def test_staff_are_told_which_addresses_are_shared_by_many(
    behind_a_proxy: httpx.AsyncClient, database: Database, analyst: Headers
) -> None:
    await insert_petition(database, address_limit=5)
    sizes = {"192.0.2.1": 12, "198.51.100.1": 6, "203.0.113.1": 5, "203.0.113.99": 1}
    number = 0
    for address, size in sizes.items():
        for _ in range(size):
            await sign(behind_a_proxy, person(number), address)
            number += 1
    held = (await behind_a_proxy.get(f"{AT}/held", headers=analyst)).json()
    assert (held["held_count"], held["asked_count"], held["releasing"]) == (8, 0, False)
    shared = [(one["signature_count"], one["confirmed_count"]) for one in held["shared_addresses"]]
    assert shared == [(12, 5), (6, 5)]
    kept = {row[0].hex() for row in await run(database, "SELECT address_digest FROM signatures")}
    assert {one["address_digest"] for one in held["shared_addresses"]} < kept


async def test_of_an_address_that_fewer_than_five_share_nobody_is_told(
    client: httpx.AsyncClient, database: Database, analyst: Headers
) -> None:
    await insert_petition(database, address_limit=1)
    for body in people_like(4):
        await sign(client, body)
    assert (await client.get(f"{AT}/held", headers=analyst)).json()["shared_addresses"] == []
    await insert_petition(database, "free", address_limit=NO_ADDRESS_LIMIT)
    for body in people_like(60):
        await client.post("/v1/petitions/free/signatures", json=body)
    free = (await client.get("/v1/petitions/free/held", headers=analyst)).json()
    assert free == {"held_count": 0, "asked_count": 0, "releasing": False, "shared_addresses": []}
