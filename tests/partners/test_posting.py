"""What becomes of what a partner posts: one result for each item, in order, and everything that counts is counted."""

import gzip
import json
from datetime import timedelta

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from tests.support.application import sweep
from tests.support.attempts import brought_id, told_id
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.mailed_links import prove, sign_and_prove, token_of
from tests.support.partner_posts import Poster, item, lines, problem_slug, signed, signed_as_bytes
from tests.support.partners import PETITION, Partner, insert_further_petition, insert_partnership
from tests.support.tallies import exact_counts


@pytest.fixture
def poster(client: httpx.AsyncClient, partnership: Partner) -> Poster:
    return Poster(client, partnership)


async def test_one_signature_an_array_and_lines_are_taken_alike(poster: Poster, database: Database) -> None:
    for number, (body, media_type) in enumerate(
        [
            (json.dumps(item(0)).encode(), "application/json"),
            (json.dumps([item(1), item(2)]).encode(), "application/json; charset=utf-8"),
            (lines(item(3), item(4)), "application/x-ndjson"),
            (lines(item(5)).replace(b"\n", b"\r\n\r\n \r\n"), "application/jsonl"),
            (b"\xef\xbb\xbf" + lines(item(6)).strip(), "application/x-ndjson"),
            (b'\xef\xbb\xbf \n[ {"x":[]} ,' + json.dumps(item(7)).encode() + b" ] \n", "application/json"),
        ]
    ):
        answer = await poster.post(body, media_type)
        assert answer.status_code == 200, (number, answer.text)
        assert answer.headers["content-type"] == "application/json"
        results = answer.json()["results"]
        assert {result["status"] for result in results[-1:]} == {"counted"}
    assert await exact_counts(database) == {PETITION: 8}


async def test_a_result_names_the_signature_and_the_partners_own_id(poster: Poster, database: Database) -> None:
    first, second = await poster.bring(item(1), item(2, id=None))
    id_ = await brought_id(database, poster.partner.organization_id, first["signature_id"])
    ((partner_id,),) = await run(database, "SELECT partner_id FROM signatures WHERE id = :id", id=id_)
    told = told_id(poster.partner.organization_id, id_)
    assert first == {"index": 0, "id": "crm:1", "status": "counted", "signature_id": told}
    assert partner_id == poster.partner.organization_id
    assert "id" not in second
    assert second["signature_id"] != first["signature_id"]


async def test_who_has_signed_is_a_duplicate_and_a_country_or_a_mail_more_changes_nothing(
    poster: Poster, database: Database
) -> None:
    assert (await poster.client.post(f"/v1/petitions/{PETITION}/signatures", json=_public(1))).status_code == 201
    results = await poster.bring(item(1), item(2), item(2, id="crm:again"), item(3))
    assert [result["status"] for result in results] == ["duplicate", "counted", "duplicate", "counted"]
    assert "signature_id" not in results[0]
    again = await poster.bring(item(2), item(3))
    assert [result["status"] for result in again] == ["duplicate", "duplicate"]
    assert await exact_counts(database) == {PETITION: 3}


def _public(number: int) -> dict[str, object]:
    return {name: value for name, value in item(number).items() if name not in {"petition", "id"}}


async def test_one_bad_item_in_ten_thousand_costs_no_other(poster: Poster, database: Database) -> None:
    items = [item(number) for number in range(10_000)]
    items[7_777]["email"] = "nobody"
    results = await poster.bring(*items)
    assert [result["index"] for result in results if result["status"] != "counted"] == [7_777]
    problem = results[7_777]["problem"]
    assert problem["errors"] == [{"at": "email", "message": "is not a valid e-mail address"}]
    assert results[7_777]["id"] == "crm:7777"
    assert await exact_counts(database) == {PETITION: 9_999}


async def test_half_a_letter_in_one_item_of_an_array_costs_no_other(poster: Poster, database: Database) -> None:
    items = [json.dumps(item(number)) for number in range(10_000)]
    items[7_777] = items[7_777].replace("Given7777", r"\ud83d")
    answer = await poster.post(f"[{','.join(items)}]".encode(), "application/json")
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["index"] for result in results if result["status"] != "counted"] == [7_777]
    assert problem_slug(results[7_777]) == "not-json"
    assert await exact_counts(database) == {PETITION: 9_999}


async def test_an_item_that_is_no_signature_is_refused_with_its_reason(poster: Poster, database: Database) -> None:
    body = b"\n".join(
        [
            json.dumps(item(1)).encode(),
            b'{"petition": "repeal-the-act", "email": ',
            b"null",
            b"17",
            json.dumps(item(2, unheard_of=1)).encode(),
            json.dumps(item(3, id="somebody@example.org")).encode(),
            json.dumps(item(4, signed_at=1700000000)).encode(),
            json.dumps(item(5, comment="x" * 140_000)).encode(),
            json.dumps(item(6)).encode().replace(b"Given6", rb"\ud800"),
            json.dumps(item(7, consents=[{"organization": "strangers", "given": True}])).encode(),
            json.dumps(item(8, country=None)).encode(),
            json.dumps(item(9)).encode(),
        ]
    )
    answer = await poster.post(body)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert results[0]["status"] == results[-1]["status"] == "counted"
    assert [problem_slug(result) for result in results[1:-1]] == [
        "not-json",
        "invalid-signature",
        "invalid-signature",
        "invalid-signature",
        "invalid-signature",
        "invalid-signature",
        "item-too-large",
        "not-json",
        "consent-not-in-terms",
        "invalid",
    ]
    assert results[4]["problem"]["errors"] == [{"at": "unheard_of", "message": "Extra inputs are not permitted"}]
    assert results[-2]["problem"]["errors"] == [{"at": "country", "message": "Field required"}]
    assert "example.org" not in answer.text
    assert await exact_counts(database) == {PETITION: 2}


async def test_a_partner_feeds_nothing_outside_its_partnership(poster: Poster, database: Database) -> None:
    partner = poster.partner
    await insert_petition(database, "of-another-campaign")
    await insert_further_petition(database, partner.campaign_id, "still-a-draft", state="draft")
    await insert_further_petition(database, partner.campaign_id, "taken-down", moderation="removed")
    refs = ("of-another-campaign", "still-a-draft", "taken-down", "nowhere", str(partner.partnership_id), "n\u2028w")
    results = await poster.bring(*(item(number, ref) for number, ref in enumerate(refs)), item(99))
    assert results[-1]["status"] == "counted"
    assert {json.dumps(result["problem"]) for result in results[:-2]} == {json.dumps(results[0]["problem"])}
    assert problem_slug(results[0]) == "petition-not-covered"
    assert sum((await exact_counts(database)).values()) == 1


async def test_only_the_petitions_that_the_terms_list_are_fed(poster: Poster, database: Database) -> None:
    partner = poster.partner
    other_id = await insert_further_petition(
        database, partner.campaign_id, "listed", opens_at=now() - timedelta(days=1)
    )
    await run(database, "UPDATE partnerships SET petition_ids = ARRAY[CAST(:id AS uuid)]", id=other_id)
    unlisted, listed, by_id = await poster.bring(item(1), item(1, "listed"), item(2, str(other_id)))
    assert (problem_slug(unlisted), listed["status"], by_id["status"]) == ("petition-not-covered", "counted", "counted")
    await run(database, "UPDATE partnerships SET state = 'ended'")
    (ended,) = await poster.bring(item(3, "listed"))
    assert problem_slug(ended) == "petition-not-covered"
    assert await exact_counts(database) == {PETITION: 0, "listed": 2}


async def test_a_petition_that_is_closed_or_closed_to_a_country_refuses(poster: Poster, database: Database) -> None:
    await run(database, "UPDATE petitions SET allowed_countries = '{UG}'")
    home, abroad = await poster.bring(item(1), item(2, country="FR"))
    assert (home["status"], problem_slug(abroad)) == ("counted", "country-not-allowed")
    await run(database, "UPDATE petitions SET state = 'closed'")
    known, late, elsewhere = await poster.bring(item(1), item(3), item(4, country="FR"))
    assert (problem_slug(known), problem_slug(late)) == ("petition-not-open", "petition-not-open")
    assert problem_slug(elsewhere) == "country-not-allowed"
    assert await exact_counts(database) == {PETITION: 1}


async def test_when_it_was_signed_there_is_when_it_counts(poster: Poster, database: Database) -> None:
    opened = now().replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
    await run(database, "UPDATE petitions SET opens_at = :at", at=opened)
    moments = [opened, opened + timedelta(hours=5, minutes=59), now() + timedelta(minutes=4)]
    bounds = [opened - timedelta(seconds=1), now() + timedelta(minutes=6)]
    results = await poster.bring(
        *(item(number, signed_at=moment.isoformat()) for number, moment in enumerate([*moments, *bounds])), item(9)
    )
    assert [result["status"] for result in results] == ["counted"] * 3 + ["refused"] * 2 + ["counted"]
    assert {problem_slug(result) for result in results[3:5]} == {"signed-at-out-of-bounds"}
    hours = await run(
        database,
        "SELECT key, sum(signature_count) FROM signature_tallies WHERE dimension = 'hour' GROUP BY 1 ORDER BY 1",
    )
    assert [int(counted) for _, counted in hours] == [1, 1, 2]
    assert str(hours[0][0]).startswith(opened.strftime("%Y-%m-%dT%H"))
    ((latest, received),) = await run(
        database, "SELECT (SELECT max(signed_at) FROM signatures), received_at FROM received_webhooks"
    )
    assert latest == received
    assert await exact_counts(database) == {PETITION: 4}


async def test_the_terms_say_which_country_is_meant_where_none_is_named(poster: Poster, database: Database) -> None:
    await run(database, "UPDATE partnerships SET default_country = 'KE'")
    results = await poster.bring(item(1, country=None), item(2) | {"country": None}, item(3, country="FR"))
    assert {result["status"] for result in results} == {"counted"}
    countries = await run(database, "SELECT country FROM signatures ORDER BY country")
    assert [country for (country,) in countries] == ["FR", "KE", "KE"]
    assert await exact_counts(database) == {PETITION: 3}


async def _ask(poster: Poster, database: Database) -> None:
    """Two more organizations, and terms that name them; each has a text to agree to, but one."""
    for slug in ("elders", "youth"):
        await run(
            database,
            "INSERT INTO organizations (id, slug, name, kind, created_at)"
            " VALUES (gen_random_uuid(), :slug, :slug, 'partner', now())",
            slug=slug,
        )
    body = {"locale": "en", "body": "May we write to you?"}
    at = f"/v1/organizations/{poster.partner.slug}/consent-texts"
    assert (await poster.client.post(at, json=body, headers=poster.partner.key)).status_code == 201
    await run(database, "UPDATE partnerships SET state = 'ended'")
    consents = [{"organization": "elders", "answer": "given"}, {"organization": "youth", "answer": "asked"}]
    await insert_partnership(database, poster.partner.organization_id, poster.partner.campaign_id, consents=consents)


async def test_consents_are_those_of_the_terms_and_those_to_the_partner_itself_reach_the_ledger(
    poster: Poster, database: Database
) -> None:
    await _ask(poster, database)
    own = {"organization": poster.partner.slug, "given": True, "text_version": "en-1"}
    elders, youth = {"organization": "elders", "given": True}, {"organization": "youth", "given": False}
    given = [
        [elders, youth, own],
        [elders, youth],
        [],
        [elders],
        [elders | {"given": False}, youth],
        [elders, youth, own | {"text_version": "en-9"}],
        [elders, youth, {"organization": poster.partner.slug, "given": True}],
        [elders, youth, youth],
        [elders, youth, {"organization": "movement", "given": True}],
    ]
    results = await poster.bring(*(item(number, consents=consents) for number, consents in enumerate(given)))
    assert [result["status"] for result in results[:2]] == ["counted", "counted"]
    assert [problem_slug(result) for result in results[2:]] == [
        "consent-missing",
        "consent-missing",
        "consent-missing",
        "unknown-consent-text",
        "consent-text-needed",
        "consent-twice",
        "consent-not-in-terms",
    ]
    await sweep(database)
    entered = await run(
        database,
        "SELECT o.slug, c.given, c.proven, c.partner_id, c.petition_id, c.attempt_id FROM consents c"
        " JOIN organizations o ON o.id = c.organization_id ORDER BY c.proven, o.slug",
    )
    id_ = await brought_id(database, poster.partner.organization_id, results[0]["signature_id"])
    brought = (poster.partner.organization_id, poster.partner.petition_id, id_)
    # It vouches for nobody but itself: the others hear of it once the person has followed their link.
    assert [tuple(row) for row in entered] == [(poster.partner.slug, True, False, *brought)]
    email = str(person(0)["email"])
    await prove(poster.client, token_of(poster.partner.petition_id, email, brought[2]), [0, 1, 2])
    await sweep(database)
    entered = await run(
        database,
        "SELECT o.slug, c.given, c.partner_id, c.petition_id, c.attempt_id FROM consents c"
        " JOIN organizations o ON o.id = c.organization_id WHERE c.proven ORDER BY o.slug",
    )
    assert [tuple(row) for row in entered] == [
        ("elders", True, *brought),
        (poster.partner.slug, True, *brought),
        ("youth", False, *brought),
    ]
    assert await exact_counts(database) == {PETITION: 2}


async def test_where_signatures_are_confirmed_by_mail_they_are_pending_and_nobody_is_reminded(
    poster: Poster, database: Database
) -> None:
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    (first,) = await poster.bring(item(1))
    assert first["status"] == "pending"
    assert await run(database, "SELECT due_mail FROM signatures") == [("confirm_signature",)]
    await run(
        database,
        "UPDATE signatures SET due_mail = NULL, mail_due_at = NULL, mail_since = NULL, mail_count = 1",
    )
    await run(database, "UPDATE petitions SET confirmation = 'none'")
    (counted,) = await poster.bring(item(2))
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    (again,) = await poster.bring(item(2))
    assert (counted["status"], again["status"]) == ("counted", "duplicate")
    assert await run(database, "SELECT due_mail FROM signatures WHERE state = 'confirmed'") == [(None,)]


async def test_whoever_has_withdrawn_by_a_proven_receipt_is_not_brought_back(
    poster: Poster, database: Database
) -> None:
    signed = await sign_and_prove(poster.client, PETITION, _public(1))
    body = {"receipt": signed["receipt"]}
    assert (await poster.client.post(f"/v1/petitions/{PETITION}/withdrawals", json=body)).status_code == 200
    (result,) = await poster.bring(item(1))
    assert result["status"] == "duplicate"
    assert await run(database, "SELECT state FROM signatures") == [("withdrawn",)]
    assert await exact_counts(database) == {PETITION: 0}


async def test_a_withdrawal_that_nobody_has_proven_keeps_nobody_from_being_brought(
    poster: Poster, database: Database
) -> None:
    signed = await poster.client.post(f"/v1/petitions/{PETITION}/signatures", json=_public(1))
    body = {"receipt": signed.json()["receipt"]}
    assert (await poster.client.post(f"/v1/petitions/{PETITION}/withdrawals", json=body)).status_code == 200
    (result,) = await poster.bring(item(1))
    assert result["status"] == "counted"
    assert await exact_counts(database) == {PETITION: 1}


async def test_what_is_packed_is_unpacked(poster: Poster, database: Database) -> None:
    body = lines(*(item(number) for number in range(500)))
    packed = gzip.compress(body[:30_000]) + gzip.compress(body[30_000:])
    headers = signed_as_bytes(poster.partner.secret, packed) | {"content-encoding": "gzip"}
    answer = await poster.send(packed, headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["counted"] == 500
    assert await exact_counts(database) == {PETITION: 500}


async def test_a_signature_over_what_was_packed_will_do(poster: Poster, database: Database) -> None:
    body = lines(item(1))
    headers = signed(poster.partner.secret, body) | {"content-encoding": "gzip"}
    assert (await poster.send(gzip.compress(body), headers)).json()["counted"] == 1
    assert (await poster.send(gzip.compress(lines(item(2))), headers)).status_code == 401
    assert await exact_counts(database) == {PETITION: 1}
