"""OSDI's helper records a signature: once, under the partner's terms, and with nothing personal in its answer."""

import asyncio
import json
from datetime import datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.foreign_payloads import (
    HELPER,
    change_terms,
    consent_ledger,
    helper_body,
    osdi_person,
    osdi_token,
    signature_rows,
    unsealed_signatures,
)
from tests.support.partners import PETITION, SLUG, Partner, insert_further_key, insert_further_petition
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json

HAL = "application/hal+json"
PROBLEM = "application/problem+json"


@pytest.fixture
def token(partnership: Partner) -> Headers:
    """The partner's key, where OSDI puts it."""
    return osdi_token(partnership)


def _slug(answer: httpx.Response) -> str:
    """What is wrong, once the answer is shown to be a problem."""
    assert answer.headers["content-type"] == PROBLEM, answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    return str(problem["type"].removeprefix("urn:multitude:problem:"))


async def _count(database: Database) -> int:
    return (await exact_counts(database))[PETITION]


async def test_the_helper_records_a_signature_with_all_its_optional_parts(
    client: httpx.AsyncClient, database: Database, settings: Settings, token: Headers
) -> None:
    answer = await client.post(HELPER, json=helper_body(), headers=token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == HAL
    told = answer.json()
    assert told["identifiers"][0] == "crm:1"
    assert told["identifiers"][1].startswith("multitude:")
    assert told["created_date"] == told["modified_date"] == told["action_date"]
    assert told["origin_system"] == "Multitude"
    at = told["_links"]["osdi:petition"]["href"]
    assert (await client.get(at.removeprefix(settings.public_url))).json()["total_signatures"] == 1
    assert await signature_rows(database) == [("confirmed", "UG", "Central", SLUG)]
    [personal] = await unsealed_signatures(database, settings)
    said = tuple(getattr(personal, name) for name in ("given_name", "family_name", "email", "postal_code"))
    assert said == ("Joy", "Nakato", "joy.1@example.org", "10101")
    assert (personal.comment, personal.reference) == ("For my sisters.", "crm:1")
    assert personal.unlisted_source == "spring-mailing"
    assert await _count(database) == 1


async def test_the_answer_names_nobody(client: httpx.AsyncClient, token: Headers) -> None:
    answer = await client.post(HELPER, json=helper_body(), headers=token)
    assert set(answer.json()) == {
        "identifiers",
        "origin_system",
        "created_date",
        "modified_date",
        "action_date",
        "_links",
    }
    assert set(answer.json()["_links"]) == {"curies", "osdi:petition"}
    for personal in ("Joy", "Nakato", "joy.1@", "10101", "Kampala", "sisters.", "256772"):
        assert personal not in answer.text


async def test_hal_json_is_read_as_json_is(client: httpx.AsyncClient, database: Database, token: Headers) -> None:
    body = json.dumps(helper_body()).encode()
    for number, media_type in enumerate((HAL, "application/json; charset=utf-8", "APPLICATION/HAL+JSON")):
        headers = {**token, "Content-Type": media_type}
        body = json.dumps(helper_body(number)).encode()
        assert (await client.post(HELPER, content=body, headers=headers)).status_code == 200
    for media_type in ("text/plain", "application/xml", ""):
        answer = await client.post(HELPER, content=body, headers={**token, "Content-Type": media_type})
        assert _slug(answer) == "unsupported-media-type"
    assert await _count(database) == 3


async def test_the_moment_and_the_language_are_those_the_sender_names(
    client: httpx.AsyncClient, database: Database, settings: Settings, token: Headers
) -> None:
    await run(database, "UPDATE petitions SET opens_at = '2026-01-01Z'")
    body = helper_body(action_date="2026-03-18T11:02:15Z", person=osdi_person(languages_spoken=["sw", "en"]))
    told = (await client.post(HELPER, json=body, headers=token)).json()
    assert told["action_date"] == "2026-03-18T11:02:15Z"
    assert datetime.fromisoformat(told["created_date"]) > datetime.fromisoformat(told["action_date"])
    assert [key for (key,) in await run(database, "SELECT key FROM signature_tallies WHERE dimension = 'hour'")] == [
        "2026-03-18T11:00:00Z"
    ]
    [personal] = await unsealed_signatures(database, settings)
    assert personal.locale == "sw"


@pytest.mark.parametrize(
    ("person_", "expected"),
    [
        (
            {
                "email_addresses": [
                    {"address": "other@example.org"},
                    {"address": "main@example.org", "primary": True},
                ]
            },
            "main@example.org",
        ),
        ({"email_addresses": [{"address": "first@example.org"}, {"address": "b@example.org"}]}, "first@example.org"),
        ({"email_addresses": ["odd", None, {"primary": True}, {"address": "real@example.org"}]}, "real@example.org"),
    ],
)
async def test_the_primary_address_is_taken_or_else_the_first(
    client: httpx.AsyncClient, database: Database, settings: Settings, token: Headers, person_: Json, expected: str
) -> None:
    answer = await client.post(HELPER, json=helper_body(person=osdi_person(**person_)), headers=token)
    assert answer.status_code == 200, answer.text
    assert [personal.email for personal in await unsealed_signatures(database, settings)] == [expected]


@pytest.mark.parametrize(
    "odd",
    [
        {"postal_addresses": [{"country": "ug", "postal_code": 10101, "region": "A <b>bold</b> region"}]},
        {"postal_addresses": [{"country": " UG ", "postal_code": ["1"], "region": {"name": "Central"}}]},
        {"phone_numbers": 256772123456, "languages_spoken": [7], "preferred_language": "not a language"},
        {"phone_numbers": [{"number": 2.5}, None], "languages_spoken": "en", "custom_fields": [1, 2]},
    ],
)
async def test_odd_types_where_nothing_is_needed_cost_nothing(
    client: httpx.AsyncClient, database: Database, token: Headers, odd: Json
) -> None:
    body = helper_body(
        person=osdi_person(**odd),
        identifiers=[{"id": 1}],
        comments=["a", "b"],
        referrer_data={"source": "a source with spaces"},
        action_date=1_395_140_535,
        triggers="all",
        add_tags=7,
    )
    answer = await client.post(HELPER, json=body, headers=token)
    assert answer.status_code == 200, answer.text
    [(state, country, region, source)] = await signature_rows(database)
    assert (state, country, source) == ("confirmed", "UG", "")
    assert region in {"", "Central"}
    assert await _count(database) == 1


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        ({"given_name": None}, "person.given_name"),
        ({"family_name": 7}, "person.family_name"),
        ({"email_addresses": []}, "person.email_addresses.address"),
        ({"email_addresses": [{"address": "no address"}]}, "person.email_addresses.address"),
        ({"postal_addresses": [{"country": "Uganda"}]}, "person.postal_addresses.country"),
        ({"postal_addresses": []}, "country"),
    ],
)
async def test_what_is_needed_and_wrong_is_named_as_the_sender_names_it(
    client: httpx.AsyncClient, database: Database, token: Headers, wrong: Json, at: str
) -> None:
    answer = await client.post(HELPER, json=helper_body(person=osdi_person(**wrong)), headers=token)
    assert _slug(answer) in {"invalid", "invalid-signature"}
    assert [error["at"] for error in answer.json()["errors"]] == [at]
    # What was refused has used nothing up: corrected, it is recorded under the same identifier.
    assert (await client.post(HELPER, json=helper_body(), headers=token)).status_code == 200
    assert await _count(database) == 1


async def test_where_no_country_is_named_that_of_the_terms_stands_in(
    client: httpx.AsyncClient, database: Database, token: Headers
) -> None:
    nowhere = helper_body(person=osdi_person(postal_addresses=[{"postal_code": "10101", "country": ""}]))
    assert _slug(await client.post(HELPER, json=nowhere, headers=token)) == "invalid"
    await change_terms(database, default_country="KE")
    assert (await client.post(HELPER, json=nowhere, headers=token)).status_code == 200
    elsewhere = helper_body(2, person=osdi_person(2, postal_addresses=[{"country": "Kenya"}]))
    assert _slug(await client.post(HELPER, json=elsewhere, headers=token)) == "invalid-signature"
    assert [country for _, country, *_ in await signature_rows(database)] == ["KE"]


async def test_sent_again_it_is_answered_alike_and_counted_once(
    client: httpx.AsyncClient, database: Database, token: Headers, partnership: Partner
) -> None:
    first = await client.post(HELPER, json=helper_body(), headers=token)
    by_id = HELPER.replace(PETITION, str(partnership.petition_id))
    again = [await client.post(at, json=helper_body(), headers=token) for at in (HELPER, by_id)]
    assert [answer.content for answer in again] == [first.content] * 2
    # How it is written does not make it another.
    written = json.dumps(helper_body() | {"add_tags": ["other"]}, indent=4).encode()
    headers = {**token, "Content-Type": HAL}
    assert (await client.post(HELPER, content=written, headers=headers)).content == first.content
    assert await _count(database) == 1


async def test_it_is_the_same_again_when_the_partner_has_changed_its_texts(
    client: httpx.AsyncClient, database: Database, token: Headers, partnership: Partner
) -> None:
    body = helper_body(person=osdi_person(email_addresses=[{"address": "joy@example.org", "status": "subscribed"}]))
    first = await client.post(HELPER, json=body, headers=token)
    text = {"purpose": "news", "locale": "en", "body": "May we write to you?"}
    added = await client.post(f"/v1/organizations/{SLUG}/consent-texts", json=text, headers=partnership.key)
    assert added.status_code == 201
    assert (await client.post(HELPER, json=body, headers=token)).content == first.content
    body["person"]["email_addresses"][0]["status"] = "unsubscribed"
    assert _slug(await client.post(HELPER, json=body, headers=token)) == "webhook-id-taken"
    assert await _count(database) == 1


async def test_ten_at_once_are_counted_once(client: httpx.AsyncClient, database: Database, token: Headers) -> None:
    answers = await asyncio.gather(*(client.post(HELPER, json=helper_body(), headers=token) for _ in range(10)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert await _count(database) == 1


async def test_another_signature_under_a_known_identifier_is_refused(
    client: httpx.AsyncClient, database: Database, token: Headers
) -> None:
    await client.post(HELPER, json=helper_body(), headers=token)
    other = helper_body(person=osdi_person(2))
    answer = await client.post(HELPER, json=other, headers=token)
    assert (_slug(answer), answer.status_code) == ("webhook-id-taken", 409)
    assert await _count(database) == 1


async def test_an_identifier_is_known_under_one_petition_and_one_partner_alone(
    client: httpx.AsyncClient, database: Database, token: Headers, partnership: Partner
) -> None:
    await insert_further_petition(database, partnership.campaign_id, "another-one")
    for slug in (PETITION, "another-one"):
        at = HELPER.replace(PETITION, slug)
        assert len((await client.post(at, json=helper_body(), headers=token)).json()["identifiers"]) == 2
    assert await exact_counts(database) == {PETITION: 1, "another-one": 1}


@pytest.mark.parametrize("identifiers", [None, [], "crm:1", [""]])
async def test_without_an_identifier_each_post_is_its_own(
    client: httpx.AsyncClient, database: Database, token: Headers, identifiers: object
) -> None:
    first, second = [
        await client.post(HELPER, json=helper_body(identifiers=identifiers), headers=token) for _ in range(2)
    ]
    assert (first.status_code, second.status_code) == (200, 200)
    assert [len(answer.json()["identifiers"]) for answer in (first, second)] == [1, 0]
    assert await _count(database) == 1


async def test_an_identifier_that_may_be_an_address_is_known_but_not_repeated(
    client: httpx.AsyncClient, database: Database, settings: Settings, token: Headers
) -> None:
    body = helper_body(identifiers=["crm:joy@example.org"])
    first, again = [await client.post(HELPER, json=body, headers=token) for _ in range(2)]
    assert first.content == again.content
    assert b"joy@" not in first.content
    [personal] = await unsealed_signatures(database, settings)
    assert personal.reference == ""


async def test_who_has_signed_before_is_answered_alike_and_counted_once(
    client: httpx.AsyncClient, database: Database, token: Headers
) -> None:
    signed = person(1, email="joy.1@example.org")
    await client.post(f"/v1/petitions/{PETITION}/signatures", json=signed)
    answer = await client.post(HELPER, json=helper_body(), headers=token)
    assert (answer.status_code, answer.json()["identifiers"]) == (200, ["crm:1"])
    assert await _count(database) == 1


@pytest.mark.parametrize("control", [{"osdi:control": {"return_response": False}}])
async def test_no_answer_is_sent_to_who_wants_none(
    client: httpx.AsyncClient, database: Database, token: Headers, control: Json
) -> None:
    answer = await client.post(HELPER, json=helper_body(**control), headers=token)
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (200, {}, HAL)
    assert await _count(database) == 1
    wrong = await client.post(HELPER, json=helper_body(2, person={}, **control), headers=token)
    assert _slug(wrong) == "invalid-signature"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("subscribed", [(SLUG, True)]),
        ("Subscribed", [(SLUG, True)]),
        ("unsubscribed", [(SLUG, False)]),
        ("bouncing", []),
        ("previous bounce", []),
        (None, []),
        (1, []),
    ],
)
async def test_the_status_of_the_address_is_the_signers_word_to_the_partner(
    client: httpx.AsyncClient, database: Database, token: Headers, status: object, expected: list[Any]
) -> None:
    body = helper_body(person=osdi_person(email_addresses=[{"address": "joy@example.org", "status": status}]))
    assert (await client.post(HELPER, json=body, headers=token)).status_code == 200
    assert await consent_ledger(database) == expected


def _subscribed(status: str | None) -> Json:
    return helper_body(person=osdi_person(email_addresses=[{"address": "joy@example.org", "status": status}]))


@pytest.mark.parametrize(
    ("answer", "refused"),
    [("given", ["unsubscribed", None]), ("asked", [None]), ("optional", [])],
)
async def test_terms_that_require_a_word_refuse_who_brings_none(
    client: httpx.AsyncClient, database: Database, token: Headers, answer: str, refused: list[str | None]
) -> None:
    await change_terms(database, consents=json.dumps([{"organization": SLUG, "answer": answer}]))
    for status in ("unsubscribed", None, "subscribed"):
        body = _subscribed(status) | {"identifiers": [f"crm:{status}"]}
        told = await client.post(HELPER, json=body, headers=token)
        assert told.status_code == (422 if status in refused else 200), told.text
        if status in refused:
            assert _slug(told) == "consent-missing"
    assert await _count(database) == 1


async def test_a_yes_to_words_nobody_names_is_left_out(
    client: httpx.AsyncClient, database: Database, token: Headers, partnership: Partner
) -> None:
    text = {"purpose": "news", "locale": "en", "body": "May we write to you?"}
    added = await client.post(f"/v1/organizations/{SLUG}/consent-texts", json=text, headers=partnership.key)
    assert added.status_code == 201
    assert (await client.post(HELPER, json=_subscribed("subscribed"), headers=token)).status_code == 200
    assert await consent_ledger(database) == []
    no = _subscribed("unsubscribed") | {"identifiers": ["crm:2"]}
    no["person"]["email_addresses"][0]["address"] = "second@example.org"
    assert (await client.post(HELPER, json=no, headers=token)).status_code == 200
    assert await consent_ledger(database) == [(SLUG, False)]
    await change_terms(database, consents=json.dumps([{"organization": SLUG, "answer": "given"}]))
    required = _subscribed("subscribed") | {"identifiers": ["crm:3"]}
    assert _slug(await client.post(HELPER, json=required, headers=token)) == "consent-missing"


async def test_only_a_partners_live_key_opens_the_helper(
    client: httpx.AsyncClient, database: Database, token: Headers, owner: Headers, partnership: Partner
) -> None:
    key = token["OSDI-API-Token"]
    wrong: list[Any] = [
        {},
        {"OSDI-API-Token": ""},
        {"OSDI-API-Token": "nonsense"},
        {"OSDI-API-Token": f"Bearer {key}"},
        {"OSDI-API-Token": f"mtd_partner_{'x' * 43}"},
        [("OSDI-API-Token", key), ("OSDI-API-Token", key)],
        partnership.key,
    ]
    for headers in wrong:
        answer = await client.post(HELPER, json=helper_body(), headers=headers)
        assert (answer.status_code, _slug(answer)) == (401, "unauthorized")
        assert answer.headers["www-authenticate"]
    staff = {"OSDI-API-Token": owner["Authorization"].removeprefix("Bearer ")}
    assert _slug(await client.post(HELPER, json=helper_body(), headers=staff)) == "forbidden"
    await run(database, "UPDATE api_keys SET revoked_at = now() WHERE role = 'partner'")
    assert (await client.post(HELPER, json=helper_body(), headers=token)).status_code == 401
    assert await _count(database) == 0


async def test_a_rotated_key_opens_it_too(client: httpx.AsyncClient, database: Database, partnership: Partner) -> None:
    second = {"OSDI-API-Token": (await insert_further_key(database, SLUG))["Authorization"].removeprefix("Bearer ")}
    for number, token in enumerate((osdi_token(partnership), second)):
        assert (await client.post(HELPER, json=helper_body(number), headers=token)).status_code == 200
    assert await _count(database) == 2


async def test_nothing_outside_the_partnership_can_be_fed(
    client: httpx.AsyncClient, database: Database, token: Headers, partnership: Partner, stranger: Headers
) -> None:
    await insert_petition(database, "of-another-campaign")
    await insert_further_petition(database, partnership.campaign_id, "a-draft", state="draft")
    for slug in ("of-another-campaign", "a-draft", "nowhere"):
        answer = await client.post(HELPER.replace(PETITION, slug), json=helper_body(), headers=token)
        assert (answer.status_code, _slug(answer)) == (403, "petition-not-covered")
    unbound = {"OSDI-API-Token": stranger["Authorization"].removeprefix("Bearer ")}
    assert _slug(await client.post(HELPER, json=helper_body(), headers=unbound)) == "petition-not-covered"
    await change_terms(database, state="ended")
    assert _slug(await client.post(HELPER, json=helper_body(), headers=token)) == "petition-not-covered"
    assert set((await exact_counts(database)).values()) == {0}


async def test_a_refusal_uses_nothing_up(client: httpx.AsyncClient, database: Database, token: Headers) -> None:
    await run(database, "UPDATE petitions SET state = 'closed'")
    refused = await client.post(HELPER, json=helper_body(), headers=token)
    assert (refused.status_code, _slug(refused)) == (409, "petition-not-open")
    await run(database, "UPDATE petitions SET state = 'open'")
    assert (await client.post(HELPER, json=helper_body(), headers=token)).status_code == 200
    assert await _count(database) == 1


async def test_under_a_petition_confirmed_by_mail_it_waits(
    client: httpx.AsyncClient, database: Database, token: Headers
) -> None:
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    answer = await client.post(HELPER, json=helper_body(), headers=token)
    assert (answer.status_code, len(answer.json()["identifiers"])) == (200, 2)
    assert [state for state, *_ in await signature_rows(database)] == ["pending"]
    assert await _count(database) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"person"',
        b"NaN",
        b'{"person": NaN}',
        b'{"person": {}, "person": {}}',
        b"[" * 50_000,
        b'{"person":' * 5000 + b"1" + b"}" * 5000,
        b'{"person":"\xff"}',
        '{"person": {}}'.encode("utf-16"),
        b"1" * 5000,
    ],
)
async def test_what_is_no_sound_json_object_is_refused(
    client: httpx.AsyncClient, database: Database, token: Headers, body: bytes
) -> None:
    headers = {**token, "Content-Type": "application/json"}
    answer = await client.post(HELPER, content=body, headers=headers)
    assert 400 <= answer.status_code < 500
    assert _slug(answer)
    assert await _count(database) == 0


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient, token: Headers) -> None:
    body = json.dumps(helper_body(comments="x" * 1_100_000)).encode()
    answer = await client.post(HELPER, content=body, headers={**token, "Content-Type": "application/json"})
    assert (answer.status_code, _slug(answer)) == (413, "too-large")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _spoilt(body: Any, path: list[int], value: Any) -> Any:
    """The body with one of its parts replaced: at each level `path` chooses which way to go."""
    if not path or not isinstance(body, dict | list) or not body:
        return value
    names: list[Any] = list(body) if isinstance(body, dict) else list(range(len(body)))
    name = names[path[0] % len(names)]
    copy = body.copy()
    copy[name] = _spoilt(body[name], path[1:], value)
    return copy


@trying(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.lists(st.integers(0, 20), max_size=5), value=_JSON, number=st.integers(0, 3))
async def test_whatever_json_is_sent_is_never_a_failure_of_ours(
    client: httpx.AsyncClient, database: Database, token: Headers, path: list[int], value: Any, number: int
) -> None:
    body = json.dumps(_spoilt(helper_body(number), path, value)).encode()
    answer = await client.post(HELPER, content=body, headers={**token, "Content-Type": "application/json"})
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert _slug(answer)
    await _count(database)
