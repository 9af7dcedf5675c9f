"""What signers send: everything that is no signature is refused with a problem and leaves no trace."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from app.kit.database.session import Database
from app.kit.text.countries import COUNTRIES
from app.settings import Settings
from app.signatures.signing.sealing import unseal
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import person
from tests.support.tallies import dump_signatures

Sign = Callable[..., Awaitable[httpx.Response]]
AT = "/v1/petitions/end-the-ban/signatures"
JSON = {"content-type": "application/json"}
# As deep as fits into a signature's 64 KiB.
DEEP = 5_000

NOT_JSON = {
    "empty": b"",
    "cut short": b'{"given_name": "Amina"',
    "no object": b'"Amina"',
    "a list": b"[]",
    "null": b"null",
    "NaN": b"NaN",
    "not UTF-8": b'{"given_name": "\xff\xfe"}',
    "UTF-16": json.dumps(person(1)).encode("utf-16"),
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep in a field": b'{"consents":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a long number": b'{"given_name": ' + b"9" * 10_000 + b"}",
    "a form": b"given_name=Amina&family_name=Okello",
}
WRONG: list[dict[str, Any]] = [
    {"given_name": ""},
    {"given_name": "   "},
    {"given_name": None},
    {"given_name": 7},
    {"given_name": ["Amina"]},
    {"given_name": "A" * 101},
    {"given_name": "Ami\x00na"},
    {"given_name": "Ami\nna"},
    {"given_name": "Ami\x1fna"},
    {"given_name": "Ami\u202ena"},
    {"given_name": "Ami\ud800na"},
    {"family_name": "Oke\u2028llo"},
    {"email": "nobody"},
    {"email": None},
    {"email": "a@b@example.org"},
    {"email": "amina@example.org\x00"},
    {"email": "x" * 400 + "@example.org"},
    {"country": "XX"},
    {"country": "UGA"},
    {"country": "U"},
    {"country": ""},
    {"country": None},
    {"country": "\u1e9e"},
    {"postal_code": "1" * 21},
    {"postal_code": "<script>"},
    {"region": "=1+1"},
    {"region": "Kam\npala"},
    {"region": "x" * 65},
    {"locale": "english please"},
    {"comment": "x" * 2001},
    {"comment": "\x07"},
    {"source": "a b"},
    {"source": "=cmd"},
    {"source": "x" * 65},
    {"referral": "x" * 201},
    {"referral": ""},
    {"consents": {}},
    {"consents": [{"organization": "a", "given": True}] * 21},
    {"consents": [{"organization": "A B", "given": True}]},
    {"consents": [{"organization": "a", "given": "perhaps"}]},
    {"consents": [{"organization": "a"}]},
    {"e_mail": "amina@example.org"},
    {"__proto__": {}},
    {"signed_at": "2020-01-01T00:00:00Z"},
    {"status": "confirmed"},
]


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_what_is_not_json_is_refused(client: httpx.AsyncClient, sign: Sign, database: Database) -> None:
    for body in NOT_JSON.values():
        assert_problem(await client.post(AT, content=body, headers=JSON), 422)
    assert await dump_signatures(database) == []


async def test_a_wrong_field_is_refused_by_its_place_and_without_its_value(
    client: httpx.AsyncClient, sign: Sign, database: Database
) -> None:
    for wrong in WRONG:
        body = json.dumps(person(1) | wrong).encode()
        answer = await client.post(AT, content=body, headers=JSON)
        assert_problem(answer, 422)
        (name, value), *_ = wrong.items()
        if "\ud800" not in str(value):  # such a text is no JSON at all
            assert {error["at"].split(".")[1] for error in answer.json()["errors"]} in ({name}, {"?"})
        if isinstance(value, str) and len(value) > 3:
            assert value not in answer.text
        assert "example.org" not in answer.text
    assert await dump_signatures(database) == []


async def test_a_missing_field_is_refused(client: httpx.AsyncClient, sign: Sign, database: Database) -> None:
    for name in ("given_name", "family_name", "email", "country"):
        body = {key: value for key, value in person(1).items() if key != name}
        answer = await client.post(AT, json=body)
        assert_problem(answer, 422)
        assert [error["at"] for error in answer.json()["errors"]] == [f"body.{name}"]
    assert await dump_signatures(database) == []


async def test_only_json_is_taken(client: httpx.AsyncClient, sign: Sign, database: Database) -> None:
    body = json.dumps(person(1)).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert_problem(await client.post(AT, content=body, headers={"content-type": kind}), 415)
    assert_problem(await client.post(AT, content=body), 415)
    assert await dump_signatures(database) == []
    named = {"content-type": "application/json; charset=utf-8"}
    assert (await client.post(AT, content=body, headers=named)).status_code == 201


async def test_the_last_of_duplicate_fields_is_the_one_that_counts(
    client: httpx.AsyncClient, sign: Sign, database: Database
) -> None:
    body = json.dumps(person(1)).replace('"country": "UG"', '"country": "FR", "country": "UG"').encode()
    assert (await client.post(AT, content=body, headers=JSON)).status_code == 201
    assert await run(database, "SELECT country FROM signatures") == [("UG",)]


async def test_a_body_that_is_too_large_is_refused_however_it_comes(
    settings: Settings, database: Database, petition_id: object
) -> None:
    async def parts() -> Any:
        for _ in range(5):
            yield b" " * 512

    async with serving(settings.model_copy(update={"max_body_bytes": 2048})) as (_, _, client):
        assert_problem(await client.post(AT, content=b" " * 2049, headers=JSON), 413)
        assert_problem(await client.post(AT, content=parts(), headers=JSON), 413)
        body = json.dumps(person(1)).encode().ljust(2048)
        assert (await client.post(AT, content=body, headers=JSON)).status_code == 201
    assert len(await run(database, "SELECT id FROM signatures")) == 1


async def test_other_methods_are_not_offered(client: httpx.AsyncClient, sign: Sign) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert_problem(await client.request(method, AT), 405)


async def test_every_country_may_sign_in_any_case(sign: Sign, database: Database) -> None:
    for number, country in enumerate(sorted(COUNTRIES)):
        assert (await sign(person(number, country=country if number % 2 else country.lower()))).status_code == 201
    rows = await run(database, "SELECT country FROM signatures")
    assert {row.country for row in rows} == COUNTRIES


async def test_names_from_everywhere_are_kept_as_they_are(sign: Sign, database: Database, settings: Settings) -> None:
    names = ["José", "O\u2019Connor", "Nguyễn Thị", "李", "محمد", "אברהם", "नमस्ते", "Zoë-Anne", "x", "👩‍👩‍👧"]
    for number, name in enumerate(names):
        assert (await sign(person(number, given_name=f"  {name} "))).status_code == 201
    rows = await run(database, "SELECT petition_id, signer, sealed FROM signatures")
    assert {unseal(settings.key_ring, *row).given_name for row in rows} == set(names)


async def test_what_is_optional_may_be_null_empty_or_left_out(sign: Sign, database: Database) -> None:
    optional = ("postal_code", "region", "locale", "comment", "source", "referral")
    assert (await sign(person(1, **dict.fromkeys(optional)))).status_code == 201
    assert (await sign(person(2, consents=[]))).status_code == 201
    assert (await sign(person(3, postal_code="", region="", comment="", source=""))).status_code == 201
    rows = await run(database, "SELECT region, source, group_id, event_id FROM signatures")
    assert {tuple(row) for row in rows} == {("", "", None, None)}


async def test_a_signature_takes_no_more_than_32_kib(client: httpx.AsyncClient, sign: Sign, database: Database) -> None:
    longest = 32 * 1024
    assert_problem(await client.post(AT, content=b" " * (longest + 1), headers=JSON), 413)
    assert await dump_signatures(database) == []
    assert (await client.post(AT, content=json.dumps(person(1)).ljust(longest), headers=JSON)).status_code == 201


async def test_whatever_people_write_fits(client: httpx.AsyncClient, sign: Sign) -> None:
    letter = "\N{ARABIC LETTER ALEF}"
    consents = [{"organization": f"{'o' * 77}-{n:02}", "given": False, "purpose": "news"} for n in range(20)]
    most = {"given_name": letter * 100, "family_name": letter * 100, "comment": letter * 2000, "referral": letter * 200}
    body = person(1, **most, consents=consents, altcha="a" * 4096, region=letter * 64)
    # All of it escaped, as some libraries do. There are no such organizations, but they were read.
    answer = await client.post(AT, content=json.dumps(body, ensure_ascii=True), headers=JSON)
    assert answer.json()["type"] == "urn:multitude:problem:unknown-organization"


async def test_the_media_type_is_named_in_any_case_and_exactly(client: httpx.AsyncClient, sign: Sign) -> None:
    body = json.dumps(person(1))
    for named in ("Application/JSON", "application/json; charset=utf-8"):
        assert (await client.post(AT, content=body, headers={"content-type": named})).status_code == 201
    assert_problem(await client.post(AT, content=body, headers={"content-type": "application/jsonx"}), 415)
