"""A person's own page: what is kept, what needs consent, taking it all along, and being forgotten."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import h3
import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.kit.metrics import exposition
from app.organizations.models import Organization
from app.people.consents.service import Entry, enter
from app.people.queries import movement_id
from app.settings import Settings
from tests.support.databases import run
from tests.support.people_mails import AMINA, Postman, link_in
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json

Sign = Callable[..., Awaitable[Json]]
SignIn = Callable[..., Awaitable[Headers]]
Stored = Callable[[], Awaitable[Sequence[Any]]]

KAMPALA = {"latitude": 0.3476, "longitude": 32.5825}
PHONE = "+256 772 123456"
# Everything a person can be asked on their own page.
OWN = [
    ("GET", "/v1/me"),
    ("PATCH", "/v1/me"),
    ("GET", "/v1/me/consents"),
    ("POST", "/v1/me/consents"),
    ("GET", "/v1/me/sessions"),
    ("DELETE", "/v1/me/sessions/x"),
    ("GET", "/v1/me/export"),
    ("POST", "/v1/me/erasure"),
]


async def agree(client: httpx.AsyncClient, headers: Headers, purpose: str, *, given: bool = True) -> httpx.Response:
    body = {"organization": "movement", "purpose": purpose, "given": given}
    answer = await client.post("/v1/me/consents", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


@pytest.mark.parametrize(("method", "path"), OWN)
async def test_ones_own_page_is_for_people_alone(
    client: httpx.AsyncClient, owner: Headers, method: str, path: str
) -> None:
    assert (await client.request(method, path)).status_code == 401
    assert (await client.request(method, path, headers=owner)).status_code == 403
    unknown = {"Authorization": f"Bearer mtd_person_{'x' * 43}"}
    assert (await client.request(method, path, headers=unknown)).status_code == 401


async def test_a_persons_key_is_no_staff_key_and_no_hindrance(client: httpx.AsyncClient, amina: Headers) -> None:
    for path in ("/v1/petitions", "/v1/campaigns", "/v1/petitions/end-the-ban", "/v1/petitions/end-the-ban/count"):
        public, with_key = await client.get(path), await client.get(path, headers=amina)
        assert (with_key.status_code, with_key.json()) == (200, public.json())
    for method, path in (("GET", "/v1/organizations"), ("POST", "/v1/campaigns")):
        assert (await client.request(method, path, headers=amina)).status_code == 403
    assert (await client.get("/v1/petitions/end-the-ban/tally?by=region", headers=amina)).status_code == 403
    ended = {"Authorization": f"Bearer mtd_person_{'x' * 43}"}
    assert (await client.get("/v1/petitions", headers=ended)).status_code == 401


async def test_people_change_what_is_kept_of_them(client: httpx.AsyncClient, amina: Headers) -> None:
    changed = await client.patch("/v1/me", json={"given_name": " Amina ", "locale": "sw"}, headers=amina)
    assert changed.status_code == 200
    shown = await client.get("/v1/me", headers=amina)
    assert shown.headers["cache-control"] == "no-store"
    assert shown.json() == changed.json() == {
        "email": AMINA, "given_name": "Amina", "family_name": None, "locale": "sw", "phone": None, "cell": None
    }  # fmt: skip
    again = await client.patch("/v1/me", json={"given_name": None}, headers=amina)
    assert (again.json()["given_name"], again.json()["locale"]) == (None, "sw")


@pytest.mark.parametrize(
    ("purpose", "body", "field", "kept"),
    [
        ("phone", {"phone": PHONE}, "phone", "+256772123456"),
        ("location", {"location": KAMPALA}, "cell", h3.latlng_to_cell(0.3476, 32.5825, 7)),
        ("location", {"cell": h3.latlng_to_cell(0.3476, 32.5825, 11)}, "cell", h3.latlng_to_cell(0.3476, 32.5825, 7)),
        ("location", {"cell": h3.latlng_to_cell(0.3476, 32.5825, 5)}, "cell", h3.latlng_to_cell(0.3476, 32.5825, 5)),
    ],
)
async def test_a_phone_number_and_a_place_are_kept_only_while_there_is_consent(
    client: httpx.AsyncClient, amina: Headers, purpose: str, body: Json, field: str, kept: str
) -> None:
    refused = await client.patch("/v1/me", json={**body, "given_name": "Amina"}, headers=amina)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:consent-needed")
    assert (await client.get("/v1/me", headers=amina)).json()["given_name"] is None
    await agree(client, amina, {"phone": "location", "location": "phone"}[purpose])
    assert (await client.patch("/v1/me", json=body, headers=amina)).status_code == 409
    await agree(client, amina, purpose)
    assert (await client.patch("/v1/me", json=body, headers=amina)).json()[field] == kept
    await agree(client, amina, purpose, given=False)
    assert (await client.get("/v1/me", headers=amina)).json()[field] is None
    await agree(client, amina, purpose)
    assert (await client.get("/v1/me", headers=amina)).json()[field] is None


async def test_where_there_are_words_for_it_a_phone_number_needs_consent_to_these_words(
    client: httpx.AsyncClient, amina: Headers, campaigner: Headers
) -> None:
    words = {"purpose": "phone", "locale": "en", "body": "You may keep my phone number."}
    await client.post("/v1/organizations/movement/consent-texts", json=words, headers=campaigner)
    word = {"organization": "movement", "purpose": "phone", "given": True}
    unread = await client.post("/v1/me/consents", json=word, headers=amina)
    assert (unread.status_code, unread.json()["type"]) == (422, "urn:multitude:problem:consent-text-needed")
    assert (await client.patch("/v1/me", json={"phone": PHONE}, headers=amina)).status_code == 409
    await client.post("/v1/me/consents", json=word | {"text_version": "en-1"}, headers=amina)
    assert (await client.patch("/v1/me", json={"phone": PHONE}, headers=amina)).json()["phone"] == "+256772123456"


@pytest.mark.parametrize(("purpose", "body"), [("phone", {"phone": PHONE}), ("location", {"location": KAMPALA})])
async def test_nobody_gives_or_takes_back_what_a_phone_number_is_kept_for_in_anothers_name(
    client: httpx.AsyncClient, amina: Headers, database: Database, settings: Settings, purpose: str, body: Json
) -> None:
    ring = settings.key_ring

    async def anybody_says(*, given: bool) -> None:
        async with database.transaction() as session:
            entry = Entry(ring.digest(AMINA), await movement_id(session), purpose, given, None, now(), proven=False)
            await enter(session, ring, [entry])

    await anybody_says(given=True)
    assert (await client.patch("/v1/me", json=body, headers=amina)).status_code == 409
    await agree(client, amina, purpose)
    kept = (await client.patch("/v1/me", json=body, headers=amina)).json()
    await anybody_says(given=False)
    assert (await client.get("/v1/me", headers=amina)).json() == kept
    assert kept["phone"] or kept["cell"]


async def test_consent_to_another_organization_keeps_no_phone_number(
    client: httpx.AsyncClient, amina: Headers, sisters: Organization
) -> None:
    body = {"organization": "sisters", "purpose": "phone", "given": True}
    assert (await client.post("/v1/me/consents", json=body, headers=amina)).status_code == 201
    assert (await client.patch("/v1/me", json={"phone": PHONE}, headers=amina)).status_code == 409
    await agree(client, amina, "phone")
    await client.patch("/v1/me", json={"phone": PHONE}, headers=amina)
    await client.post("/v1/me/consents", json={**body, "given": False}, headers=amina)
    assert (await client.get("/v1/me", headers=amina)).json()["phone"] == "+256772123456"
    assert (await client.patch("/v1/me", json={"phone": None}, headers=amina)).json()["phone"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"phone": "0772 123456"},
        {"phone": "+256 1"},
        {"phone": "+256772123456 ext. 7"},
        {"phone": "call me"},
        {"phone": 256772123456},
        {"cell": "8" * 15},
        {"cell": "xyz"},
        {"cell": ""},
        {"location": {"latitude": 91, "longitude": 0}},
        {"location": {"latitude": "NaN", "longitude": 0}},
        {"location": {"latitude": 1}},
        {"location": KAMPALA, "cell": None},
        {"email": "other@example.org"},
        {"given_name": "A\nB"},
        {"locale": "<b>"},
        {"signer": "x"},
        [],
    ],
    ids=str,
)
async def test_malformed_changes_change_nothing_and_are_not_repeated(
    client: httpx.AsyncClient, amina: Headers, stored: Stored, body: Any
) -> None:
    before = await stored()
    answer = await client.patch("/v1/me", json=body, headers=amina)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "772123" not in answer.text
    assert await stored() == before


async def test_people_see_all_they_have_said_in_the_words_they_were_asked(
    client: httpx.AsyncClient, amina: Headers, campaigner: Headers, sisters: Organization
) -> None:
    await client.post(
        "/v1/organizations/sisters/consent-texts", json={"locale": "en", "body": "May we?"}, headers=campaigner
    )
    given = {"organization": "sisters", "given": True, "text_version": "en-1"}
    answer = await client.post("/v1/me/consents", json=given, headers=amina)
    assert answer.status_code == 201
    await client.post("/v1/me/consents", json={"organization": "sisters", "given": False}, headers=amina)
    listed = (await client.get("/v1/me/consents", headers=amina)).json()["items"]
    assert [(one["given"], one["latest"], one["text"]) for one in listed] == [
        (False, True, None),
        (True, False, "May we?"),
    ]
    assert listed[1] == {**answer.json(), "latest": False}
    assert {(one["page"], one["proven"]) for one in listed} == {("me", True)}
    assert listed[1]["organization_name"] == "Sisters of Kampala"
    first = (await client.get("/v1/me/consents?limit=1", headers=amina)).json()
    second = await client.get("/v1/me/consents", params={"cursor": first["next_cursor"]}, headers=amina)
    assert first["items"] + second.json()["items"] == listed


async def test_the_download_holds_everything_and_nothing_of_others(
    client: httpx.AsyncClient, amina: Headers, sign: Sign, sign_in: SignIn, database: Database, settings: Settings
) -> None:
    signer = settings.key_ring.digest(AMINA)
    await sign("bilal@example.org")
    await sign_in("bilal@example.org")
    await agree(client, amina, "phone")
    await client.patch("/v1/me", json={"given_name": "Amina", "phone": PHONE}, headers=amina)
    answer = await client.get("/v1/me/export", headers=amina)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    taken = answer.json()
    assert taken["person"]["phone"] == "+256772123456"
    kept = await run(database, "SELECT created_at, updated_at, looked_at FROM people WHERE signer = :s", s=signer)
    times = [taken["person"][name] for name in ("created_at", "updated_at", "looked_at")]
    assert [datetime.fromisoformat(time) for time in times] == [*kept[0]]
    assert [one["purpose"] for one in taken["consents"]] == ["phone"]
    assert (len(taken["sessions"]), len(taken["sign_ins"]), len(taken["signatures"])) == (1, 1, 1)
    assert taken["signatures"][0]["email"] == AMINA
    assert "bilal" not in answer.text
    assert "digest" not in answer.text


@pytest.mark.parametrize("body", [{}, {"signatures": "perhaps"}, {"signatures": None}, {"signatures": "keep", "x": 1}])
async def test_an_erasure_must_say_what_becomes_of_the_signatures(
    client: httpx.AsyncClient, amina: Headers, stored: Stored, body: Json
) -> None:
    before = await stored()
    assert (await client.post("/v1/me/erasure", json=body, headers=amina)).status_code == 422
    assert await stored() == before


@pytest.mark.parametrize(("choice", "count"), [("keep", 2), ("withdraw", 1)])
async def test_after_an_erasure_nothing_knows_the_person(
    client: httpx.AsyncClient,
    amina: Headers,
    sign: Sign,
    sign_in: SignIn,
    stored: Stored,
    postman: Postman,
    database: Database,
    settings: Settings,
    data_officer: Headers,
    choice: str,
    count: int,
) -> None:
    await sign("bilal@example.org")
    bilal = await sign_in("bilal@example.org")
    other_device = await sign_in()
    await agree(client, amina, "phone")
    await client.patch("/v1/me", json={"phone": PHONE}, headers=amina)
    await agree(client, amina, "news")
    left = (await client.post("/v1/sign-ins", json={"email": AMINA})).json()
    (_, letter) = sorted(await postman.bring(), key=lambda mail: mail.unsubscribe_url is None)
    await client.post("/v1/sign-ins", json={"email": AMINA})
    signer = settings.key_ring.digest(AMINA)
    assert signer.hex() in await dumped(database)

    answer = await client.post("/v1/me/erasure", json={"signatures": choice}, headers=amina)
    assert (answer.status_code, answer.json()) == (200, {"status": "erased"})

    whole = await dumped(database)
    assert signer.hex() not in whole
    assert "amina" not in whole.lower()
    assert await exact_counts(database) == {"end-the-ban": count}
    for headers in (amina, other_device):
        for method, path in OWN:
            body = {"signatures": "keep"} if path.endswith("erasure") else None
            assert (await client.request(method, path, headers=headers, json=body)).status_code == 401
    assert (await client.get("/v1/organizations/movement/people", headers=data_officer)).json()["items"] == []
    token = link_in(letter).partition("token=")[2]
    used = await client.post("/v1/sessions", json={"token": token, "binding": left["binding"]})
    assert used.status_code == 403
    assert await postman.bring() == []
    assert "amina" not in exposition().decode().lower()
    assert (await client.get("/v1/me", headers=bilal)).status_code == 200


async def dumped(database: Database) -> str:
    """Every row of every table, as a thief would find it, with bytes in hexadecimal."""
    tables = await run(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    rows = [await run(database, f"SELECT to_jsonb(t)::text FROM {name} AS t") for (name,) in tables]
    return json.dumps([row[0] for found in rows for row in found])


async def test_an_erasure_that_fails_half_way_can_be_asked_for_again(
    client: httpx.AsyncClient, amina: Headers, database: Database
) -> None:
    await run(
        database,
        "CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
    )
    await run(database, "CREATE TRIGGER stays BEFORE DELETE ON people EXECUTE FUNCTION stays()")
    try:
        failed = await client.post("/v1/me/erasure", json={"signatures": "withdraw"}, headers=amina)
    finally:
        await run(database, "DROP TRIGGER stays ON people")
        await run(database, "DROP FUNCTION stays()")
    assert failed.status_code == 500
    again = await client.post("/v1/me/erasure", json={"signatures": "withdraw"}, headers=amina)
    assert again.status_code == 200
    assert await run(database, "SELECT 1 FROM people UNION ALL SELECT 1 FROM consents") == []
