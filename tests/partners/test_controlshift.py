"""ControlShift's webhook: one new signature at a time, signed over its bytes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
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
    CONTROLSHIFT,
    change_terms,
    consent_ledger,
    controlshift_event,
    controlshift_headers,
    new_secret,
    signature_rows,
    unsealed_signatures,
)
from tests.support.partners import PETITION, SLUG, Partner, insert_further_petition
from tests.support.tallies import exact_counts
from tests.support.types import Json

Send = Callable[..., Awaitable[httpx.Response]]
HEADER = "x-controlshift-webhook-signature"
NOTHING = {"results": [], "counted": 0, "pending": 0, "duplicate": 0, "refused": 0}


@pytest.fixture
async def secret(database: Database, settings: Settings, partnership: Partner) -> str:
    """What the partner signs with, in a partnership whose country is Ireland."""
    await change_terms(database, default_country="IE")
    await run(database, "UPDATE petitions SET opens_at = '2020-01-01Z'")
    return await new_secret(database, settings, partnership, "controlshift")


@pytest.fixture
def send(client: httpx.AsyncClient, secret: str) -> Send:
    """Post this event, signed; the answer."""

    async def post(event: object, at: str = CONTROLSHIFT, by: str = secret) -> httpx.Response:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return await client.post(at, content=body, headers=controlshift_headers(body, by))

    return post


def _told(answer: httpx.Response) -> Json:
    """The one result."""
    assert answer.status_code == 200, answer.text
    [result] = answer.json()["results"]
    assert answer.json()[result["status"]] == 1
    told: Json = result
    return told


def _slug(problem: Json) -> str:
    return str(problem["type"].removeprefix("urn:multitude:problem:"))


async def _count(database: Database) -> int:
    return (await exact_counts(database))[PETITION]


async def test_a_signature_is_counted_with_what_it_brings(send: Send, database: Database, settings: Settings) -> None:
    result = _told(await send(controlshift_event(41)))
    assert (result["status"], result["id"]) == ("counted", "41")
    assert await signature_rows(database) == [("confirmed", "IE", "", "")]
    [personal] = await unsealed_signatures(database, settings)
    told = tuple(getattr(personal, name) for name in ("given_name", "family_name", "email", "postal_code"))
    assert told == ("Aoife", "Byrne", "aoife.41@example.org", "D02 X285")
    assert personal.reference == "41"
    [(hour,)] = await run(database, "SELECT DISTINCT key FROM signature_tallies WHERE dimension = 'hour'")
    assert hour == "2026-11-12T17:00:00Z"
    assert await consent_ledger(database) == [(SLUG, True)]
    assert await _count(database) == 1


async def test_sent_again_it_is_answered_alike_and_counted_once(send: Send, database: Database) -> None:
    first = await send(controlshift_event(1))
    assert (await send(controlshift_event(1))).content == first.content
    # Its id is what it is known by: nothing a retry says differently switches the endpoint off over there.
    assert (await send(controlshift_event(1, phone_number=None))).content == first.content
    assert await _count(database) == 1


async def test_ten_at_once_are_counted_once(send: Send, database: Database) -> None:
    answers = await asyncio.gather(*(send(controlshift_event(1)) for _ in range(10)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert _told(answers[0])["status"] == "counted"
    assert await _count(database) == 1


async def test_who_has_signed_before_is_a_duplicate(send: Send, client: httpx.AsyncClient, database: Database) -> None:
    body = person(1, email="aoife.1@example.org")
    await client.post(f"/v1/petitions/{PETITION}/signatures", json=body)
    assert _told(await send(controlshift_event(1)))["status"] == "duplicate"
    assert _told(await send(controlshift_event(2, email="aoife.1@example.org")))["status"] == "duplicate"
    assert await _count(database) == 1


async def test_the_same_id_under_another_petition_is_another_webhook(
    send: Send, database: Database, partnership: Partner
) -> None:
    await insert_further_petition(database, partnership.campaign_id, "another-one", opens_at=None)
    for slug in (PETITION, "another-one"):
        assert _told(await send(controlshift_event(1), CONTROLSHIFT.replace(PETITION, slug)))["status"] == "counted"
    assert await exact_counts(database) == {PETITION: 1, "another-one": 1}


@pytest.mark.parametrize("id_", [None, "", "a-uuid-or-so", 2.5, ["x"], "who@example.org", 10**30])
async def test_an_odd_id_costs_nothing_and_is_the_same_again(send: Send, database: Database, id_: object) -> None:
    first = await send(controlshift_event(1, id=id_))
    assert _told(first)["status"] == "counted"
    assert (await send(controlshift_event(1, id=id_))).content == first.content
    assert b"@" not in first.content
    assert await _count(database) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"type": "petition.launched", "data": {"id": 1}},
        {"type": "attendee.created", "data": controlshift_event()["data"]},
        {"type": ["signature.created"], "data": {}},
        {"data": {}},
        {},
    ],
)
async def test_what_is_no_new_signature_is_answered_and_left(send: Send, database: Database, event: Json) -> None:
    answer = await send(event)
    assert (answer.status_code, answer.json()) == (200, NOTHING)
    assert await _count(database) == 0


@pytest.mark.parametrize(
    ("joins", "words"), [(True, [(SLUG, True)]), (False, [(SLUG, False)]), (None, []), ("yes", [])]
)
async def test_joining_the_organization_is_the_signers_word_to_it(
    send: Send, database: Database, joins: object, words: list[Any]
) -> None:
    assert _told(await send(controlshift_event(1, join_organisation=joins)))["status"] == "counted"
    assert await consent_ledger(database) == words


@pytest.mark.parametrize(
    ("answer", "refused"),
    [("given", [False, None]), ("asked", [None]), ("optional", [])],
)
async def test_terms_that_require_a_word_refuse_who_brings_none(
    send: Send, database: Database, answer: str, refused: list[bool | None]
) -> None:
    await change_terms(database, consents=json.dumps([{"organization": SLUG, "answer": answer}]))
    for number, joins in enumerate((True, False, None)):
        result = _told(await send(controlshift_event(number, join_organisation=joins)))
        assert result["status"] == ("refused" if joins in refused else "counted")
        if joins in refused:
            assert _slug(result["problem"]) == "consent-missing"
    assert await _count(database) == 3 - len(refused)


async def test_a_yes_to_words_nobody_names_is_left_out(
    send: Send, client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    text = {"purpose": "news", "locale": "en", "body": "May we write to you?"}
    await client.post(f"/v1/organizations/{SLUG}/consent-texts", json=text, headers=partnership.key)
    assert _told(await send(controlshift_event(1)))["status"] == "counted"
    assert await consent_ledger(database) == []


async def test_a_country_is_taken_where_one_is_named(send: Send, database: Database) -> None:
    assert _told(await send(controlshift_event(1, country="GB")))["status"] == "counted"
    refused = _told(await send(controlshift_event(2, country="United Kingdom")))
    assert [error["at"] for error in refused["problem"]["errors"]] == ["data.country"]
    await change_terms(database, default_country=None)
    refused = _told(await send(controlshift_event(3)))
    assert [error["at"] for error in refused["problem"]["errors"]] == ["country"]
    assert [country for _, country, *_ in await signature_rows(database)] == ["GB"]


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        ({"first_name": None}, "data.first_name"),
        ({"last_name": ["Byrne"]}, "data.last_name"),
        ({"email": "no address"}, "data.email"),
    ],
)
async def test_what_is_needed_and_wrong_is_named_as_the_sender_names_it(
    send: Send, database: Database, wrong: Json, at: str
) -> None:
    result = _told(await send(controlshift_event(7, **wrong)))
    assert (result["status"], result["id"], _slug(result["problem"])) == ("refused", "7", "invalid-signature")
    assert [error["at"] for error in result["problem"]["errors"]] == [at]
    assert await _count(database) == 0


async def test_every_live_secret_signs_and_no_other(
    send: Send, database: Database, settings: Settings, partnership: Partner, secret: str
) -> None:
    second = await new_secret(database, settings, partnership, "controlshift")
    other_scheme = await new_secret(database, settings, partnership, "action_network")
    for number, by in enumerate((secret, second)):
        assert _told(await send(controlshift_event(number), by=by))["status"] == "counted"
    for by in (other_scheme, partnership.secret, "", second + "x"):
        assert (await send(controlshift_event(3), by=by)).status_code == 401
    await run(database, "UPDATE webhook_secrets SET revoked_at = now()")
    assert (await send(controlshift_event(3))).status_code == 401
    assert await _count(database) == 2


async def test_a_signature_over_anything_else_opens_nothing(
    client: httpx.AsyncClient, database: Database, secret: str
) -> None:
    body = json.dumps(controlshift_event()).encode()
    signed = controlshift_headers(body, secret)
    digest = signed[HEADER]
    wrong: list[Any] = [
        {},
        {HEADER: ""},
        {HEADER: digest.removeprefix("sha256:")},
        {HEADER: digest.replace("sha256:", "sha1:")},
        {HEADER: digest[:-1]},
        {HEADER: f"{digest}0"},
        {HEADER: f"{digest} "[:-2] + "g"},
        {HEADER: f"sha256:{'0' * 64}"},
        {HEADER: "sha256:" + "\u0660" * 64},
        [(HEADER, digest), (HEADER, digest)],
    ]
    answers = [await client.post(CONTROLSHIFT, content=body, headers=_encoded(headers)) for headers in wrong]
    answers.append(await client.post(CONTROLSHIFT, content=body + b" ", headers=signed))
    elsewhere = [CONTROLSHIFT.replace(SLUG, unknown) for unknown in ("nobody", "movement")]
    answers += [await client.post(at, content=body, headers=signed) for at in elsewhere]
    answers.append(await client.post(CONTROLSHIFT, content=b"[" * 5000, headers={HEADER: digest}))
    told = [{**answer.json(), "request_id": ""} for answer in answers]
    assert told == [told[0]] * len(told)
    assert {answer.status_code for answer in answers} == {401}
    assert await _count(database) == 0
    upper = {**signed, HEADER: "sha256:" + digest.removeprefix("sha256:").upper()}
    assert _told(await client.post(CONTROLSHIFT, content=body, headers=upper))["status"] == "counted"


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(b"content-type", b"application/json"), *((name.encode(), value.encode()) for name, value in pairs)]


async def test_nothing_outside_the_partnership_can_be_fed(send: Send, database: Database, partnership: Partner) -> None:
    await insert_petition(database, "of-another-campaign")
    await insert_further_petition(database, partnership.campaign_id, "a-draft", state="draft")
    for slug in ("of-another-campaign", "a-draft", "nowhere"):
        answer = await send(controlshift_event(), CONTROLSHIFT.replace(PETITION, slug))
        assert (answer.status_code, _slug(answer.json())) == (403, "petition-not-covered")
    await change_terms(database, state="ended")
    assert (await send(controlshift_event())).status_code == 403
    assert set((await exact_counts(database)).values()) == {0}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"type": "signature.created", "type": "x"}',
        b'{"a":' * 50 + b"1" + b"}" * 50,
        b'{"a":NaN}',
        b"[" * 15_000,
        b'{"\xff": 1}',
        '{"type": "x"}'.encode("utf-16"),
        b'{"type": "x"}{}',
    ],
)
async def test_what_is_no_sound_json_object_is_refused(send: Send, database: Database, body: bytes) -> None:
    answer = await send(body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert await _count(database) == 0


async def test_another_media_type_is_refused(client: httpx.AsyncClient, database: Database, secret: str) -> None:
    body = json.dumps(controlshift_event()).encode()
    headers = {**controlshift_headers(body, secret), "Content-Type": "text/plain"}
    assert (await client.post(CONTROLSHIFT, content=body, headers=headers)).status_code == 415
    assert await _count(database) == 0


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@trying(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(whole=_JSON, data=st.dictionaries(st.sampled_from(sorted(controlshift_event()["data"])), _JSON, max_size=3))
async def test_whatever_json_is_sent_is_never_a_failure_of_ours(
    send: Send, database: Database, whole: Any, data: dict[str, Any]
) -> None:
    for event in (whole, {"type": "signature.created", "data": whole}, controlshift_event(1, **data)):
        assert (await send(event)).status_code < 500
    await _count(database)
