"""Rules that could ask for one person: refused alike for some and for none, and never told to the last signature."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.signatures.reading.disclosure import draw
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import (
    AT,
    apply_all,
    change_state,
    draft_invalidation,
    prepared_signing,
    sign_all,
)
from tests.support.settings import RING
from tests.support.types import Headers, Json

THEN = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FARM = bytes.fromhex("00112233445566ff")


def crowd(petition_id: UUID, count: int) -> list[Any]:
    """So many signatures of three countries, in four hours."""
    return [
        prepared_signing(
            petition_id,
            person(n, ("UG", "FR", "DE")[n % 3], signed_at=(THEN + timedelta(hours=n % 4)).isoformat()),
        )
        for n in range(count)
    ]


def border_of(petition_id: UUID) -> int:
    """The border behind which counts of this petition are rounded, in this hour."""
    return draw(RING.digest_key, petition_id, now().strftime("%Y-%m-%dT%H:00:00Z"))


FEW: list[Json] = [
    {"mail_domains": ["amina-okello.example"]},
    {"mail_domains": ["amina-okello.example", "example.org"]},
    {"address_digests": [FARM.hex()]},
    {"sources": ["letter"]},
    {"countries": ["AQ"]},
    {"signed_from": "2026-03-01T12:30:00Z", "signed_until": "2026-03-01T12:31:00Z"},
]


@pytest.mark.parametrize("rule", FEW)
async def test_nobody_and_few_are_told_alike_and_cannot_be_drafted(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, rule: Json
) -> None:
    """The issue's example: `null` for one to four and `0` for none told whether a family's domain had signed."""
    others = [prepared_signing(petition_id, person(n)) for n in range(100, 130)]
    await sign_all(database, others)
    told = []
    for count in range(5):
        signed = {"email": f"{count}@amina-okello.example", "source": "letter", "country": "AQ"}
        body = person(count, **{**signed, "signed_at": THEN.isoformat()})
        answer = await client.post(f"{AT}/invalidations", json={"reason": "r", "rule": rule}, headers=campaigner)
        problem = answer.json()
        assert problem.pop("request_id")
        told.append((answer.status_code, problem))
        await sign_all(database, [prepared_signing(petition_id, body, address_digest=FARM)])
    assert {status for status, _ in told} == {409}
    assert {problem["type"] for _, problem in told} == {"urn:multitude:problem:rule-matches-too-few"}
    assert len({str(sorted(problem.items())) for _, problem in told}) == 1
    assert await run(database, "SELECT id FROM invalidations") == []


@pytest.mark.parametrize("proven", [4, 5])
async def test_a_domain_that_five_have_proven_to_share_may_be_named(
    client: httpx.AsyncClient, database: Database, campaigner: Headers, proven: int
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    people = [person(n, email=f"{n}@farm.example") for n in range(proven)]
    signings = [prepared_signing(petition_id, body) for body in [*people, *(person(n) for n in range(100, 130))]]
    await sign_all(database, signings)
    await run(database, "UPDATE signatures SET state = 'confirmed', proven = true")
    body = {"reason": "r", "rule": {"mail_domains": ["farm.example"]}}
    answer = await client.post(f"{AT}/invalidations", json=body, headers=campaigner)
    assert answer.status_code == (201 if proven >= 5 else 409)
    if proven >= 5:
        assert answer.json()["dry_run"]["signature_count"] == 5


async def test_a_draft_that_has_come_to_match_few_says_no_more_than_that(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    people = crowd(petition_id, 18)
    await sign_all(database, people)
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    at = f"{AT}/invalidations/{view['id']}"
    told = []
    for left in (4, 0):
        await run(
            database,
            f"UPDATE signatures SET state = 'withdrawn' WHERE country = 'UG' AND signer NOT IN"
            f" (SELECT signer FROM signatures WHERE country = 'UG' AND state = 'confirmed' LIMIT {left})",
        )
        told.append((await client.get(at, headers=campaigner)).json()["dry_run"])
        assert (await client.post(f"{at}/apply", headers=campaigner)).status_code == 409
    assert told == [{"signature_count": None, "by_country": [], "by_hour": [], "by_state": {}}] * 2


async def test_two_rules_that_differ_by_few_are_told_alike(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers
) -> None:
    """The difference of two dry runs told how many there were in between."""
    await sign_all(database, crowd(petition_id, 90))
    border = border_of(petition_id)
    minutes = [(THEN + timedelta(minutes=n)).isoformat() for n in range(1, 8)]
    # Just behind a border: one more does not cross the next.
    matching = sum(1 for n in range(90) if n % 4 == 0)
    missing = (border - matching) % 10
    await sign_all(
        database, [prepared_signing(petition_id, person(200 + n, signed_at=THEN.isoformat())) for n in range(missing)]
    )
    one = [prepared_signing(petition_id, person(300, "AQ", signed_at=minutes[3]))]
    await sign_all(database, one)
    views = [
        await draft_invalidation(client, campaigner, signed_from=THEN.isoformat(), signed_until=until)
        for until in minutes
    ]
    assert len({str(view["dry_run"]) for view in views}) == 1
    assert "AQ" not in str([view["dry_run"] for view in views])


async def test_who_asks_for_dry_runs_without_end_has_to_wait(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, owner: Headers
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    answers = [
        await client.get(f"{AT}/invalidations/{view['id']}", headers=(owner, campaigner)[n % 2]) for n in range(60)
    ]
    assert [answer.status_code for answer in answers] == [200] * 59 + [429]
    assert answers[-1].headers["retry-after"] == "3600"


@pytest.mark.parametrize("few", [True, False])
async def test_how_many_were_invalidated_is_told_from_five_on(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, campaigner: Headers, few: bool
) -> None:
    await sign_all(database, crowd(petition_id, 18))
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    assert (view["invalidated_count"], view["restored_count"]) == (0, 0)
    begun = await change_state(client, campaigner, view, "apply")
    assert begun["invalidated_count"] is None
    if few:
        await run(database, "UPDATE signatures SET country = 'FR' WHERE signer = (SELECT min(signer) FROM signatures)")
        await run(database, "UPDATE invalidations SET invalidated_count = 4")
    else:
        await apply_all(database, petition_id)
    told = (await client.get(f"{AT}/invalidations/{view['id']}", headers=campaigner)).json()
    assert told["invalidated_count"] == (None if few else 6)
