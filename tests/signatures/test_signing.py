"""A signature counts: once a person, at once, and in answers that tell a stranger nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import httpx

from app.kit.clock import now
from app.kit.database.session import Database
from tests.support.databases import run
from tests.support.factories import insert_petition, people_like, person
from tests.support.tallies import dump_signatures, exact_counts

Sign = Callable[..., Awaitable[httpx.Response]]
Count = Callable[[], Awaitable[int]]
HOUR = timedelta(hours=1)
PETITION = "/v1/petitions/end-the-ban"


async def test_a_signature_counts_at_once(sign: Sign, count: Count, database: Database) -> None:
    assert await count() == 0
    for number in range(3):
        assert (await sign(person(number))).status_code == 201
        assert await count() == number + 1
    assert await exact_counts(database) == {"end-the-ban": 3}


async def test_the_answer_says_what_the_contract_says(sign: Sign, petition_id: UUID) -> None:
    answer = await sign(person(1), f"/v1/petitions/{petition_id}")
    told = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(told) == {"id", "status", "receipt", "links"}
    assert told["status"] == "confirmed"
    assert UUID(told["id"]).version == 8
    assert told["links"] == {
        "petition": PETITION,
        "count": f"{PETITION}/count",
        "stream": f"{PETITION}/stream",
        "withdraw": f"{PETITION}/withdrawals",
    }


async def test_signing_twice_counts_once(sign: Sign, count: Count, database: Database) -> None:
    for _ in range(3):
        assert (await sign(person(1))).status_code == 201
    assert await count() == 1
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_signing_twice_looks_like_signing_once(sign: Sign) -> None:
    first, second = await sign(person(1)), await sign(person(1, given_name="Somebody", country="FR"))
    assert first.status_code == second.status_code == 201
    assert list(first.headers) == list(second.headers)
    assert len(first.content) == len(second.content)
    told, again = first.json(), second.json()
    assert list(told) == list(again)
    assert (told["status"], told["links"]) == (again["status"], again["links"])
    assert told["id"] != again["id"]
    assert told["receipt"] != again["receipt"]


async def test_whoever_signs_twice_changes_nothing_of_the_first(sign: Sign, database: Database) -> None:
    await sign(person(1, country="UG"))
    before = await run(database, "SELECT * FROM signatures")
    await sign(person(1, given_name="Somebody", country="FR", comment="Not me"))
    assert await run(database, "SELECT * FROM signatures") == before


async def test_the_same_person_is_known_in_any_spelling(sign: Sign, count: Count) -> None:
    for email in ("amina@example.org", " AMINA@Example.ORG ", "Amina@EXAMPLE.org"):
        assert (await sign(person(1, email=email))).status_code == 201
    assert await count() == 1


async def test_many_who_sign_at_once_are_all_counted(sign: Sign, count: Count, database: Database) -> None:
    answers = await asyncio.gather(*map(sign, [*people_like(200), *people_like(200)]))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 400
    assert await count() == 200
    assert await exact_counts(database) == {"end-the-ban": 200}


async def test_one_person_signs_each_petition(sign: Sign, database: Database, client: httpx.AsyncClient) -> None:
    await insert_petition(database, "another")
    both = [sign(person(1)), sign(person(1), "/v1/petitions/another")]
    assert {answer.status_code for answer in await asyncio.gather(*both)} == {201}
    assert await exact_counts(database) == {"another": 1, "end-the-ban": 1}


SHUT: dict[str, tuple[dict[str, object], int, str]] = {
    "closed": ({"state": "closed"}, 409, "petition-not-open"),
    "archived": ({"state": "archived"}, 409, "petition-not-open"),
    "over": ({"closes_at": now() - HOUR, "opens_at": None}, 409, "petition-not-open"),
    "over-by-itself": (
        {"state": "draft", "opens_at": now() - 2 * HOUR, "closes_at": now() - HOUR},
        409,
        "petition-not-open",
    ),
    "draft": ({"state": "draft", "opens_at": None}, 404, "petition-not-found"),
    "planned": ({"state": "draft", "opens_at": now() + HOUR}, 404, "petition-not-found"),
    "pending": ({"moderation": "pending"}, 404, "petition-not-found"),
    "rejected": ({"moderation": "rejected"}, 404, "petition-not-found"),
    "removed": ({"moderation": "removed"}, 404, "petition-not-found"),
    "elsewhere": ({"allowed_countries": ["FR", "DE"]}, 422, "country-not-allowed"),
}


async def test_a_petition_that_is_not_open_to_the_signer_refuses_and_changes_nothing(
    client: httpx.AsyncClient, database: Database
) -> None:
    for slug, (petition, status, kind) in SHUT.items():
        await insert_petition(database, slug, **petition)
        answer = await client.post(f"/v1/petitions/{slug}/signatures", json=person(1))
        assert (slug, answer.status_code) == (slug, status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"urn:multitude:problem:{kind}"
        assert await dump_signatures(database) == []


async def test_an_unknown_petition_is_not_found(sign: Sign, database: Database) -> None:
    for ref in ("unknown", str(uuid4()), "%00", "..%2F", "end-the-ban%20", "END-THE-BAN", "é" * 200):
        answer = await sign(person(1), f"/v1/petitions/{ref}")
        assert (ref, answer.status_code) == (ref, 404)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await dump_signatures(database) == []


async def test_a_draft_takes_signatures_from_its_opening_time_on(client: httpx.AsyncClient, database: Database) -> None:
    await insert_petition(database, state="draft", opens_at=now() - HOUR, allowed_countries=["UG"])
    assert (await client.post(f"{PETITION}/signatures", json=person(1))).status_code == 201


async def test_a_cached_open_petition_cannot_accept(sign: Sign, client: httpx.AsyncClient, database: Database) -> None:
    await sign(person(1))
    before = await dump_signatures(database)
    await run(database, "UPDATE petitions SET state = 'closed'")
    assert (await sign(person(2))).status_code == 409
    assert await dump_signatures(database) == before


async def test_a_petition_just_closed_tells_nobody_who_has_signed(sign: Sign, database: Database) -> None:
    await sign(person(1))
    before = await dump_signatures(database)
    await run(database, "UPDATE petitions SET state = 'closed'")
    answers = await asyncio.gather(sign(person(1)), sign(person(2)))
    assert {answer.status_code for answer in answers} == {409}
    assert await dump_signatures(database) == before


async def test_a_country_just_shut_out_is_refused_whoever_has_signed(sign: Sign, database: Database) -> None:
    await asyncio.gather(sign(person(1)), sign(person(2, country="FR")))
    before = await dump_signatures(database)
    await run(database, "UPDATE petitions SET allowed_countries = '{FR}'")
    answers = await asyncio.gather(sign(person(1)), sign(person(3)))
    assert {answer.status_code for answer in answers} == {422}
    assert await dump_signatures(database) == before
    assert (await sign(person(2, country="FR"))).status_code == 201


async def test_a_petition_just_removed_is_gone(sign: Sign, database: Database) -> None:
    await sign(person(1))
    await run(database, "UPDATE petitions SET moderation = 'removed'")
    assert (await sign(person(2))).status_code == 404
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_a_cached_closed_petition_cannot_refuse(
    client: httpx.AsyncClient, sign: Sign, database: Database
) -> None:
    await run(database, "UPDATE petitions SET state = 'closed'")
    assert (await sign(person(1))).status_code == 409
    await run(database, "UPDATE petitions SET state = 'open'")
    assert (await sign(person(1))).status_code == 201
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_what_a_signature_is_tallied_by(sign: Sign, database: Database) -> None:
    group, event = uuid4(), uuid4()
    await sign(person(1, country="ug", region=" Kampala ", source="news-letter", referral=f"group:{group}"))
    await sign(person(2, country="FR", referral=f"event:{event}", region=None, source=None))
    await sign(person(3, country="FR", region="", source="", referral="a friend of mine"))
    rows = await run(
        database, "SELECT dimension, key, signature_count FROM signature_tallies WHERE dimension <> 'hour'"
    )
    day = now().strftime("%Y-%m-%d")
    assert sorted(tuple(row) for row in rows) == sorted(
        [
            ("total", "", 3),
            ("country", "FR", 2),
            ("country", "UG", 1),
            ("region", "UG/Kampala", 1),
            ("region", "", 2),
            ("source", "newsletter", 1),
            ("source", "", 2),
            ("group", str(group), 1),
            ("group", "", 2),
            ("event", str(event), 1),
            ("event", "", 2),
            ("country_day", f"UG {day}", 1),
            ("country_day", f"FR {day}", 2),
        ]
    )
