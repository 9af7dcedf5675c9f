"""Action Network's webhook: an array of signatures, posted to an address that holds the secret."""

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
from app.kit.metrics import exposition
from app.settings import Settings
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.foreign_payloads import (
    ACTION_NETWORK,
    action_network_item,
    change_terms,
    consent_ledger,
    new_secret,
    signature_rows,
    unsealed_signatures,
)
from tests.support.partners import PETITION, SLUG, Partner, insert_further_petition
from tests.support.tallies import exact_counts
from tests.support.types import Json

Send = Callable[..., Awaitable[httpx.Response]]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def token(database: Database, settings: Settings, partnership: Partner) -> str:
    """What the address holds."""
    await run(database, "UPDATE petitions SET opens_at = '2020-01-01Z'")
    return await new_secret(database, settings, partnership, "action_network")


@pytest.fixture
def send(client: httpx.AsyncClient, token: str) -> Send:
    """Post these items; the answer."""

    async def post(*items: object, at: str = ACTION_NETWORK, held: str = token) -> httpx.Response:
        return await client.post(f"{at}/{held}", json=list(items))

    return post


def _told(answer: httpx.Response) -> list[str]:
    """The status of each result, once it is shown that they are in order and add up."""
    assert answer.status_code == 200, answer.text
    view = answer.json()
    statuses = [result["status"] for result in view["results"]]
    assert [result["index"] for result in view["results"]] == list(range(len(statuses)))
    for status in ("counted", "pending", "duplicate", "refused"):
        assert view[status] == statuses.count(status)
    return statuses


def _problem(result: Json) -> str:
    return str(result["problem"]["type"].removeprefix("urn:multitude:problem:"))


async def _count(database: Database) -> int:
    return (await exact_counts(database))[PETITION]


async def test_signatures_are_counted_with_what_they_bring(send: Send, database: Database, settings: Settings) -> None:
    items = [action_network_item(1), action_network_item(2)]
    answer = await send(*items)
    assert _told(answer) == ["counted", "counted"]
    assert [result["id"] for result in answer.json()["results"]] == [item["idempotency_key"] for item in items]
    assert await signature_rows(database) == [("confirmed", "US", "California", "facebook")] * 2
    personal = (await unsealed_signatures(database, settings))[0]
    told = tuple(
        getattr(personal, name) for name in ("given_name", "family_name", "email", "postal_code", "locale", "comment")
    )
    assert told == ("Maria", "Garcia", "maria.1@example.org", "94110", "es", "For my sisters.")
    assert personal.reference == items[0]["idempotency_key"]
    [(hour,)] = await run(database, "SELECT DISTINCT key FROM signature_tallies WHERE dimension = 'hour'")
    assert hour == "2026-11-12T17:00:00Z"
    assert await consent_ledger(database) == [(SLUG, True)] * 2
    assert await _count(database) == 2


async def test_sent_again_it_is_answered_alike_though_its_dates_have_moved(send: Send, database: Database) -> None:
    items = [action_network_item(number) for number in range(3)]
    first = await send(*items)
    assert (await send(*items)).content == first.content
    for item in items:
        item["osdi:signature"]["modified_date"] = "2026-11-13T00:00:00Z"
        item["osdi:signature"]["person"]["modified_date"] = "2026-11-13T00:00:00Z"
    assert (await send(*items)).content == first.content
    assert await _count(database) == 3


async def test_ten_at_once_are_counted_once(send: Send, database: Database) -> None:
    items = [action_network_item(number) for number in range(20)]
    answers = await asyncio.gather(*(send(*items) for _ in range(10)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert _told(answers[0]) == ["counted"] * 20
    assert await _count(database) == 20


async def test_the_same_items_in_other_company_are_duplicates(send: Send, database: Database) -> None:
    one, two, three = (action_network_item(number) for number in range(3))
    assert _told(await send(one, two)) == ["counted", "counted"]
    assert _told(await send(two, three)) == ["duplicate", "counted"]
    assert _told(await send(three, two)) == ["duplicate", "duplicate"]
    assert await _count(database) == 3


async def test_who_has_signed_elsewhere_is_a_duplicate(
    send: Send, client: httpx.AsyncClient, database: Database
) -> None:
    body = person(1, email="maria.1@example.org")
    await client.post(f"/v1/petitions/{PETITION}/signatures", json=body)
    assert _told(await send(action_network_item(1))) == ["duplicate"]
    assert await _count(database) == 1


async def test_what_is_no_signature_is_refused_and_its_neighbours_are_counted(send: Send, database: Database) -> None:
    submission = {"osdi:submission": action_network_item(7)["osdi:signature"], "idempotency_key": "key-of-another"}
    odd: list[object] = [submission, {}, [], "x", None, 7, {"osdi:signature": []}]
    answer = await send(action_network_item(1), *odd, action_network_item(2))
    assert _told(answer) == ["counted", *["refused"] * len(odd), "counted"]
    refused = answer.json()["results"][1:-1]
    assert {_problem(result) for result in refused} == {"invalid-signature"}
    assert await _count(database) == 2


async def test_one_bad_item_among_many_costs_nobody_else(send: Send, database: Database) -> None:
    items: list[Json] = [action_network_item(number) for number in range(500)]
    items[250] = action_network_item(250, email_addresses=[{"address": "no address"}])
    answer = await send(*items)
    assert [number for number, status in enumerate(_told(answer)) if status != "counted"] == [250]
    result = answer.json()["results"][250]
    assert _problem(result) == "invalid-signature"
    assert [error["at"] for error in result["problem"]["errors"]] == ["person.email_addresses.address"]
    assert b"no address" not in answer.content
    assert await _count(database) == 499


@pytest.mark.parametrize("key", [None, "", 7, ["a"], "who@example.org", "x" * 300])
async def test_an_odd_key_costs_nothing_and_is_the_same_again(send: Send, database: Database, key: object) -> None:
    item = action_network_item(1) | {"idempotency_key": key}
    first = await send(item)
    assert _told(first) == ["counted"]
    assert (await send(item)).content == first.content
    assert b"@" not in first.content
    assert _told(await send(action_network_item(2) | {"idempotency_key": f"{key}x"})) == ["counted"]
    assert await _count(database) == 2


async def test_items_without_a_key_are_known_by_what_they_say(send: Send, database: Database) -> None:
    items = [action_network_item(number) for number in (1, 2)]
    for item in items:
        del item["idempotency_key"]
    assert [_told(await send(item)) for item in items] == [["counted"], ["counted"]]
    assert await _count(database) == 2


async def test_where_no_country_is_named_that_of_the_terms_stands_in(send: Send, database: Database) -> None:
    nowhere = [{"primary": True, "region": "California", "postal_code": "94110"}]
    assert _told(await send(action_network_item(1, postal_addresses=nowhere))) == ["refused"]
    await change_terms(database, default_country="US")
    assert _told(await send(action_network_item(2, postal_addresses=nowhere))) == ["counted"]
    assert await signature_rows(database) == [("confirmed", "US", "California", "facebook")]


@pytest.mark.parametrize(("status", "outcome"), [("subscribed", "counted"), ("unsubscribed", "refused")])
async def test_terms_that_require_consent_refuse_who_has_not_given_it(
    send: Send, database: Database, status: str, outcome: str
) -> None:
    await change_terms(database, consents=json.dumps([{"organization": SLUG, "answer": "given"}]))
    address = [{"address": "maria@example.org", "status": status}]
    answer = await send(action_network_item(1, email_addresses=address), action_network_item(2))
    assert _told(answer) == [outcome, "counted"]
    if outcome == "refused":
        assert _problem(answer.json()["results"][0]) == "consent-missing"


async def test_only_a_live_secret_opens_the_address(
    client: httpx.AsyncClient, send: Send, database: Database, settings: Settings, partnership: Partner, token: str
) -> None:
    second = await new_secret(database, settings, partnership, "action_network")
    other_scheme = await new_secret(database, settings, partnership, "controlshift")
    assert _told(await send(action_network_item(1), held=second)) == ["counted"]
    await run(database, "UPDATE webhook_secrets SET revoked_at = now() WHERE last_used_at IS NOT NULL")
    assert _told(await send(action_network_item(2))) == ["counted"]
    elsewhere = ACTION_NETWORK.replace(SLUG, "nobody")
    answers = [
        await send(action_network_item(3), held=second),
        await send(action_network_item(3), held=other_scheme),
        await send(action_network_item(3), held=partnership.secret.replace("/", "_")),
        await send(action_network_item(3), held=token[:-1]),
        await send(action_network_item(3), held=token + "x"),
        await send(action_network_item(3), held="%C3%A9%FF"),
        await send(action_network_item(3), at=elsewhere),
        await send(action_network_item(3), at=ACTION_NETWORK.replace(SLUG, "movement")),
        await client.post(f"{ACTION_NETWORK}/{'x' * 3000}", content=b"{", headers=JSON),
    ]
    told = [{**answer.json(), "request_id": ""} for answer in answers]
    assert told == [told[0]] * len(told)
    assert {answer.status_code for answer in answers} == {401}
    assert await _count(database) == 2


async def test_an_expired_secret_opens_nothing(send: Send, database: Database) -> None:
    await run(database, "UPDATE webhook_secrets SET expires_at = now() - interval '1 second'")
    assert (await send(action_network_item(1))).status_code == 401
    assert await _count(database) == 0


async def test_the_address_stands_in_no_log_and_no_metric(
    send: Send, token: str, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _told(await send(action_network_item(1))) == ["counted"]
    await run(database, "ALTER TABLE webhook_secrets RENAME TO gone")
    try:
        assert (await send(action_network_item(2))).status_code == 503
    finally:
        await run(database, "ALTER TABLE gone RENAME TO webhook_secrets")
    out, err = capfd.readouterr()
    assert "schema behind" in out + err
    assert token not in out + err
    assert token not in exposition().decode()


async def test_nothing_outside_the_partnership_can_be_fed(send: Send, database: Database, partnership: Partner) -> None:
    await insert_petition(database, "of-another-campaign")
    await insert_further_petition(database, partnership.campaign_id, "a-draft", state="draft")
    for slug in ("of-another-campaign", "a-draft", "nowhere"):
        answer = await send(action_network_item(1), at=ACTION_NETWORK.replace(PETITION, slug))
        assert (answer.status_code, _problem({"problem": answer.json()})) == (403, "petition-not-covered")
    await change_terms(database, state="ended")
    answer = await send(action_network_item(1))
    assert (answer.status_code, _problem({"problem": answer.json()})) == (403, "petition-not-covered")
    assert set((await exact_counts(database)).values()) == {0}


async def test_the_same_items_under_another_petition_are_another_webhook(
    send: Send, database: Database, partnership: Partner
) -> None:
    await insert_further_petition(database, partnership.campaign_id, "another-one", opens_at=None)
    for slug in (PETITION, "another-one", str(partnership.petition_id)):
        assert _told(await send(action_network_item(1), at=ACTION_NETWORK.replace(PETITION, slug))) == ["counted"]
    assert await exact_counts(database) == {PETITION: 1, "another-one": 1}


async def test_ten_thousand_are_taken_and_no_more(send: Send, database: Database) -> None:
    items = [action_network_item(number) for number in range(10_001)]
    assert 400 <= (await send(*items)).status_code < 500
    assert await _count(database) == 0
    assert set(_told(await send(*items[:-1]))) == {"counted"}
    assert await _count(database) == 10_000


async def test_nothing_in_it_is_nothing_counted(send: Send, database: Database) -> None:
    assert (await send()).status_code in {200, 422}
    assert await _count(database) == 0


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "application/json"),
        (b"[", "application/json"),
        (b"{}", "application/json"),
        (b'"x"', "application/json"),
        (b'[{"idempotency_key": "a", "idempotency_key": "b"}]', "application/json"),
        (b"[" * 50_000, "application/json"),
        (b"[" * 5000 + b"]" * 5000, "application/json"),
        (b'["\xff"]', "application/json"),
        (b"[NaN]", "application/json"),
        ("[{}]".encode("utf-16"), "application/json"),
        (b"[]", "text/plain"),
    ],
)
async def test_what_is_no_sound_array_is_refused(
    client: httpx.AsyncClient, database: Database, token: str, body: bytes, media_type: str
) -> None:
    answer = await client.post(f"{ACTION_NETWORK}/{token}", content=body, headers={"Content-Type": media_type})
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert await _count(database) == 0


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@trying(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    whole=_JSON,
    signature=_JSON,
    people=st.lists(
        st.tuples(
            st.sampled_from(("given_name", "email_addresses", "postal_addresses", "languages_spoken", "phone_numbers")),
            _JSON,
        ),
        max_size=3,
    ),
)
async def test_whatever_json_is_sent_is_never_a_failure_of_ours(
    client: httpx.AsyncClient, token: str, database: Database, whole: Any, signature: Any, people: list[tuple[str, Any]]
) -> None:
    odd = action_network_item(1, **dict(people))
    for body in (whole, [whole], [{"osdi:signature": signature}, odd]):
        answer = await client.post(f"{ACTION_NETWORK}/{token}", content=json.dumps(body).encode(), headers=JSON)
        assert answer.status_code < 500
    await _count(database)
