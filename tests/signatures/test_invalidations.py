"""Signatures that are not genuine: found by a rule, looked at, invalidated slice by slice, and restored as a whole."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.organizations.service import create_organization
from app.petitions.clear_text import KNOWN_SOURCES, ClearText
from app.signatures.background import runner
from app.signatures.engine import chunks
from app.signatures.engine.confirm import confirm
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.transitions import Confirmation, Withdrawal
from app.signatures.engine.withdraw import withdraw
from app.signatures.moderation import rules
from app.signatures.moderation.schemas import RULE_FIELDS, RuleBody
from app.signatures.reading.disclosure import about, draw
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
from tests.support.tallies import dump_signatures, exact_counts
from tests.support.types import Headers, Json

Sign = Callable[..., Awaitable[httpx.Response]]

THEN = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FARM = bytes.fromhex("00112233445566ff")
ROBOTS = ClearText(sources=KNOWN_SOURCES | {"robot": "robot"})


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 4)


def crowd(petition_id: UUID, count: int, **more: Any) -> list[Any]:
    """So many signatures that differ in country, hour, source, domain and address."""
    return [
        prepared_signing(
            petition_id,
            person(
                number,
                ("UG", "FR", "DE")[number % 3],
                email=f"person.{number}@{('example.org', 'farm.example', 'mailinator.com')[number % 3]}",
                source=("letter", "robot", "")[number % 3 - number % 2],
                signed_at=(THEN + timedelta(hours=number % 4)).isoformat(),
            ),
            ROBOTS,
            address_digest=FARM if number % 5 == 0 else None,
            **more,
        )
        for number in range(count)
    ]


def border_of(petition_id: UUID) -> int:
    """The border behind which counts of this petition are rounded, in this hour."""
    return draw(RING.digest_key, petition_id, now().strftime("%Y-%m-%dT%H:00:00Z"))


async def states(database: Database) -> Counter[str]:
    return Counter(row[0] for row in await run(database, "SELECT state FROM signatures"))


async def invalidated(database: Database) -> set[bytes]:
    return {row[0] for row in await run(database, "SELECT signer FROM signatures WHERE state = 'invalidated'")}


RULES: list[tuple[Json, Callable[[Any], bool]]] = [
    ({"mail_domains": ["FARM.example"]}, lambda n: n % 3 == 1),
    ({"address_digests": [FARM.hex().upper()]}, lambda n: n % 5 == 0),
    ({"sources": ["robot", "letter"]}, lambda n: n % 3 - n % 2 in {0, 1}),
    ({"sources": [""]}, lambda n: n % 3 - n % 2 in {2, -1}),
    ({"countries": ["ug", "DE"]}, lambda n: n % 3 in {0, 2}),
    ({"disposable": True}, lambda n: n % 3 == 2),
    (
        {
            "signed_from": (THEN + timedelta(hours=1)).isoformat(),
            "signed_until": (THEN + timedelta(hours=3)).isoformat(),
        },
        lambda n: n % 4 in {1, 2},
    ),
    ({"mail_domains": ["farm.example"], "sources": ["robot"]}, lambda n: n % 6 == 4),
    ({"everything": True}, lambda n: n >= 0),
]


@pytest.mark.parametrize(("rule", "matches"), RULES)
async def test_what_the_dry_run_says_is_what_is_invalidated(
    client: httpx.AsyncClient,
    database: Database,
    petition_id: UUID,
    campaigner: Headers,
    rule: Json,
    matches: Callable[[int], bool],
) -> None:
    people = crowd(petition_id, 90)
    await sign_all(database, people)
    expected = {one.signer for number, one in enumerate(people) if matches(number)}
    before = await dump_signatures(database)
    view = await draft_invalidation(client, campaigner, **rule)
    told = view["dry_run"]
    assert view["state"] == "draft"
    assert told["signature_count"] == about(len(expected), border_of(petition_id))
    for rows in (told["by_country"], told["by_hour"]):
        assert sum(row["signature_count"] for row in rows) == told["signature_count"]
    assert sum(told["by_state"].values()) == told["signature_count"]
    assert await dump_signatures(database) == before
    applying = await change_state(client, campaigner, view, "apply")
    assert (applying["state"], applying["dry_run"]) == ("applying", told)
    counts = await apply_all(database, petition_id)
    assert counts == sorted(counts, reverse=True)
    assert await invalidated(database) == expected
    assert counts[-1] == 90 - len(expected)
    applied = (await client.get(f"{AT}/invalidations/{view['id']}", headers=campaigner)).json()
    assert (applied["state"], applied["invalidated_count"]) == ("applied", len(expected))
    assert applied["slice"] == applied["slice_count"] == 23
    assert applied["dry_run"] is None


async def test_an_invalidation_is_undone_as_a_whole(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 30))
    before = await dump_signatures(database)
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    await apply_all(database, petition_id)
    undoing = await change_state(client, campaigner, view, "undo")
    assert (undoing["state"], undoing["slice"]) == ("undoing", 0)
    counts = await apply_all(database, petition_id)
    assert (counts[0], counts[-1]) == (min(counts), 30)
    after = (await client.get(f"{AT}/invalidations/{view['id']}", headers=campaigner)).json()
    assert (after["state"], after["invalidated_count"], after["restored_count"]) == ("undone", 10, 10)
    # Tallies may have moved to another lane; the signatures are what they were.
    assert [row for row in await dump_signatures(database) if len(row) > 10] == [row for row in before if len(row) > 10]


async def test_it_can_be_undone_while_it_is_being_applied(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 30))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    async with claimed_lane(database) as lane:
        for _ in range(4):
            assert await runner.run_chunk(lane, RING, ScanProgress())
    assert 0 < len(await invalidated(database)) < 10
    await change_state(client, campaigner, view, "undo")
    await apply_all(database, petition_id)
    assert await states(database) == {"confirmed": 30}


async def test_each_verb_may_be_said_again_and_none_out_of_turn(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    at = f"{AT}/invalidations/{view['id']}"
    early = await client.post(f"{at}/undo", headers=campaigner)
    assert (early.status_code, early.json()["type"]) == (409, "urn:multitude:problem:invalidation-out-of-turn")
    first, second = (
        await change_state(client, campaigner, view, "apply"),
        await change_state(client, campaigner, view, "apply"),
    )
    assert first["signed_before"] == second["signed_before"]
    await apply_all(database, petition_id)
    assert (await change_state(client, campaigner, view, "apply"))["state"] == "applied"
    assert await apply_all(database, petition_id) == []
    await change_state(client, campaigner, view, "undo")
    assert (await client.post(f"{at}/apply", headers=campaigner)).status_code == 409
    await apply_all(database, petition_id)
    assert (await change_state(client, campaigner, view, "undo"))["state"] == "undone"
    assert (await client.post(f"{at}/apply", headers=campaigner)).status_code == 409
    assert await states(database) == {"confirmed": 18}


async def test_who_signs_after_it_was_applied_is_not_touched(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, sign: Sign
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    await sign(person(100, "UG"))
    # When somebody signed is kept to the second.
    last = "UPDATE signatures SET signed_at = signed_at + interval '1 s' WHERE signer = :signer"
    await run(database, last, signer=signer_of(person(100)))
    await apply_all(database, petition_id)
    assert await states(database) == {"confirmed": 13, "invalidated": 6}


async def test_a_signature_given_in_time_and_committed_late_is_not_forgotten(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 30))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    async with claimed_lane(database) as lane:
        for _ in range(5):
            await runner.run_chunk(lane, RING, ScanProgress())
        late = [prepared_signing(petition_id, person(n, "UG", signed_at=THEN.isoformat())) for n in range(100, 130)]
        await sign_all(database, late)
        await apply_all(database, petition_id)
    assert await states(database) == {"confirmed": 20, "invalidated": 40}
    told = (await client.get(f"{AT}/invalidations/{view['id']}", headers=campaigner)).json()
    assert (told["state"], told["invalidated_count"]) == ("applied", 40)


async def test_whoever_confirms_or_withdraws_meanwhile_is_restored_to_that(
    client: httpx.AsyncClient, database: Database, campaigner: Headers
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    people = crowd(petition_id, 9)
    await sign_all(database, people)
    view = await draft_invalidation(client, campaigner, everything=True)
    assert view["dry_run"]["by_state"] == {"other": 5}
    await change_state(client, campaigner, view, "apply")
    assert set(await apply_all(database, petition_id)) == {0}
    async with claimed_lane(database) as lane:
        await confirm(lane, [Confirmation(*one[:3]) for one in people[:5]])
        # What is proven is withdrawn by a proven receipt, and by no other.
        await withdraw(lane, [Withdrawal(*one[:3]) for one in (people[3], people[5])])
        await withdraw(lane, [Withdrawal(*people[4][:3], proven=True)])
    assert await exact_counts(database) == {"end-the-ban": 0}
    assert await states(database) == {"invalidated": 9}
    await change_state(client, campaigner, view, "undo")
    assert (await apply_all(database, petition_id))[-1] == 4
    assert await states(database) == {"confirmed": 4, "withdrawn": 2, "pending": 3}
    taken_back = await run(database, "SELECT signer, taken_back FROM signatures WHERE state = 'withdrawn'")
    assert dict(map(tuple, taken_back)) == {people[4].signer: True, people[5].signer: False}


async def test_a_partners_signatures_are_found_by_its_slug(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    async with database.transaction() as session:
        partner = await create_organization(session, "careless-partner", "Careless")
        await session.flush()
        partner_id = partner.id
    await sign_all(database, crowd(petition_id, 6, partner_id=partner_id))
    await sign_all(database, [prepared_signing(petition_id, person(100))])
    view = await draft_invalidation(client, campaigner, partner="careless-partner")
    assert view["rule"]["partner"] == "careless-partner"
    await change_state(client, campaigner, view, "apply")
    assert (await apply_all(database, petition_id))[-1] == 1


async def test_the_state_of_the_petition_does_not_matter(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await run(database, "UPDATE petitions SET state = 'archived'")
    await change_state(client, campaigner, view, "apply")
    assert (await apply_all(database, petition_id))[-1] == 12


LATER = (now() + timedelta(days=1)).replace(second=0, microsecond=0).isoformat()
BAD: list[Json] = [
    {},
    {"everything": False},
    {"disposable": False},
    {"mail_domains": []},
    {"mail_domains": ["not a domain, secret.person@example.org"]},
    {"mail_domains": ["secret-domain"]},
    {"mail_domains": ["secret@example.org"]},
    {"mail_domains": ["127.0.0.1"]},
    {"address_digests": ["secret"]},
    {"address_digests": ["00112233445566"]},
    {"countries": ["XX"]},
    {"sources": ["secret person"]},
    {"partner": "secret-nobody"},
    {"partner": "movement"},
    {"signed_from": LATER, "signed_until": THEN.isoformat()},
    {"signed_from": LATER, "signed_until": LATER},
    {"signed_from": "2026-01-01"},
    {"signed_from": "2026-01-01T00:00:01Z"},
    {"signed_until": "2026-01-01T00:00:00.000001Z"},
    {"email": "secret@example.org"},
]


async def test_a_rule_that_makes_no_sense_is_refused_and_not_repeated(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    for rule in BAD:
        body = {"reason": "a reason", "rule": rule}
        answer = await client.post(f"{AT}/invalidations", json=body, headers=campaigner)
        assert answer.status_code == 422, rule
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
    empty = await client.post(f"{AT}/invalidations", json={"reason": "r", "rule": {}}, headers=campaigner)
    assert empty.json()["type"] == "urn:multitude:problem:rule-matches-everything"
    assert await run(database, "SELECT id FROM invalidations") == []


async def test_a_rule_that_turns_out_to_match_everybody_needs_the_word(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    rule = {"signed_from": "2020-01-01T00:00:00Z"}
    view = await draft_invalidation(client, campaigner, **rule)
    at = f"{AT}/invalidations/{view['id']}"
    refused = await client.post(f"{at}/apply", headers=campaigner)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:rule-matches-all-signatures")
    assert (await client.get(at, headers=campaigner)).json()["state"] == "draft"
    assert await apply_all(database, petition_id) == []
    meant = await draft_invalidation(client, campaigner, **rule, everything=True)
    await change_state(client, campaigner, meant, "apply")
    assert (await apply_all(database, petition_id))[-1] == 0


async def test_also_a_domain_needs_the_word_when_it_is_everybodys(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, [prepared_signing(petition_id, person(n, email=f"{n}@farm.example")) for n in range(15)])
    view = await draft_invalidation(client, campaigner, mail_domains=["farm.example"])
    refused = await client.post(f"{AT}/invalidations/{view['id']}/apply", headers=campaigner)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:rule-matches-all-signatures")


async def test_no_domain_of_a_rule_stands_in_clear(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    people = [person(n, email=f"{n}@bücher-amina.example") for n in range(15)]
    await sign_all(database, [prepared_signing(petition_id, body) for body in people])
    view = await draft_invalidation(client, campaigner, mail_domains=["Bücher-Amina.example"])
    assert view["rule"]["mail_domains"] == ["xn--bcher-amina-thb.example"]
    stored = str([tuple(row) for row in await run(database, "SELECT * FROM invalidations")])
    assert "amina" not in stored.lower()


async def test_campaigners_alone_read_and_write_invalidations(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, analyst: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    views = [await draft_invalidation(client, campaigner, countries=["UG", "FR", "DE"][: n + 1]) for n in range(3)]
    listed = (await client.get(f"{AT}/invalidations?limit=2", headers=campaigner)).json()
    assert [item["id"] for item in listed["items"]] == [view["id"] for view in views[:0:-1]]
    rest = await client.get(f"{AT}/invalidations?cursor={listed['next_cursor']}", headers=campaigner)
    assert [item["rule"]["countries"] for item in rest.json()["items"]] == [["UG"]]
    body = {"reason": "r", "rule": {"countries": ["UG"]}}
    assert (await client.post(f"{AT}/invalidations", json=body, headers=analyst)).status_code == 403
    for at in (f"{AT}/invalidations", f"{AT}/invalidations/{views[0]['id']}"):
        assert (await client.get(at, headers=analyst)).status_code == 403
        assert (await client.get(at)).status_code == 401
    other = await insert_petition(database, "another")
    for ref in (views[0]["id"], "nothing", str(other)):
        answer = await client.get(f"/v1/petitions/another/invalidations/{ref}", headers=campaigner)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:multitude:problem:invalidation-not-found")


def test_every_field_of_a_rule_is_asked_of_each_signature() -> None:
    """A field without its SQL would be ignored, and the rule would match more than it says."""
    assert RULE_FIELDS.keys() == RuleBody.model_fields.keys() - {"everything"}
    assert [f"${number}::" in rules.rule_sql(5) for number in (4, 5, 13, 14)] == [False, True, True, False]
