"""Bodies that could be read in two ways, or not at all: refused as a whole, clearly, and nothing is counted."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.partner_posts import LINES, Poster, item, lines, signed, signed_as_bytes
from tests.support.partners import Partner
from tests.support.tallies import dump_signatures
from tests.support.types import Json

JSON = "application/json"
MEBIBYTE = 1024 * 1024
GOOD = json.dumps(item(1)).encode()


@pytest.fixture
def poster(client: httpx.AsyncClient, partnership: Partner) -> Poster:
    return Poster(client, partnership)


async def _refused(answer: httpx.Response, database: Database) -> tuple[int, str]:
    """Status and slug of the problem, once it is shown that nothing of the body is kept or repeated."""
    problem: Json = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert "example.org" not in answer.text
    assert await dump_signatures(database) == []
    assert await run(database, "SELECT count(*) FROM received_webhooks") == [(0,)]
    return answer.status_code, problem["type"].removeprefix("urn:multitude:problem:")


def _deep(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


WHOLE = {
    "nothing": (b"", JSON, 400, "nothing-sent"),
    "only space": (b" \n\t", JSON, 400, "nothing-sent"),
    "no lines": (b"\n\r\n  \n", LINES, 400, "nothing-sent"),
    "an empty array": (b" [ \n] ", JSON, 400, "nothing-sent"),
    "a string": (b'"repeal-the-act"', JSON, 400, "not-json"),
    "half an object": (GOOD[:-1], JSON, 400, "not-json"),
    "half an array": (b"[" + GOOD, JSON, 400, "not-json"),
    "half a string": (b"[" + GOOD + b',"', JSON, 400, "not-json"),
    "an array that goes on": (b"[" + GOOD + b"]]", JSON, 400, "not-json"),
    "an array and more": (b"[" + GOOD + b"] []", JSON, 400, "not-json"),
    "an array closed by a brace": (b"[" + GOOD + b"}", JSON, 400, "not-json"),
    "a comma too many": (b"[" + GOOD + b",]", JSON, 400, "not-json"),
    "a comma alone": (b"[" + GOOD + b",,1]", JSON, 400, "not-json"),
    "two objects": (GOOD + GOOD, JSON, 400, "not-json"),
    "lines as JSON": (lines(item(1), item(2)), JSON, 400, "not-json"),
    "no number": (b"[" + GOOD + b',{"a":NaN}]', JSON, 400, "not-json"),
    "UTF-16": (GOOD.decode().encode("utf-16"), JSON, 400, "wrong-charset"),
    "UTF-16 without a mark": (GOOD.decode().encode("utf-16-le"), JSON, 400, "not-json"),
    "Latin-1": (GOOD.replace(b"Given1", b"Andr\xe9"), JSON, 400, "wrong-charset"),
    "Latin-1 in the last line": (lines(item(1)) + GOOD.replace(b"Given1", b"Andr\xe9"), LINES, 400, "wrong-charset"),
    "cut in the middle of a letter": (lines(item(1)) + b'"\xe2\x82', LINES, 400, "wrong-charset"),
    "an overlong letter": (lines(item(1)) + b'"\xc0\xaf"', LINES, 400, "wrong-charset"),
    "the same key twice": (GOOD[:-1] + b',"email":"b@example.org"}', JSON, 400, "duplicate-keys"),
    "twice with a space": (GOOD[:-1] + b',"email"\n\t :"b@example.org"}', JSON, 400, "duplicate-keys"),
    "twice, once escaped": (GOOD[:-1] + rb',"em\u0061il":"b@example.org"}', JSON, 400, "duplicate-keys"),
    "twice in an array": (b"[" + GOOD + b"," + GOOD[:-1] + b',"id":"b"}]', JSON, 400, "duplicate-keys"),
    "twice in the last line": (GOOD + b"\n" + GOOD[:-1] + b',"id":"b"}', LINES, 400, "duplicate-keys"),
    "twice within": (
        lines(item(1)) + GOOD[:-1] + b',"consents":[{"organization":"a","given":true,"given":false}]}',
        LINES,
        400,
        "duplicate-keys",
    ),
    "twice in what is no signature": (lines(item(1)) + b'{"a":{"b":1,"b":2}}', LINES, 400, "duplicate-keys"),
    "too deep": (_deep(33), JSON, 400, "too-deep"),
    "too deep in an array": (b"[" + GOOD + b"," + _deep(32) + b"]", JSON, 400, "too-deep"),
    "too deep in a line": (lines(item(1)) + b'{"consents":' + b"[" * 32 + b"]" * 32 + b"}", LINES, 400, "too-deep"),
    "deep beyond recursion": (lines(item(1)) + b"[" * 1000, LINES, 400, "too-deep"),
    "deep array beyond recursion": (b"[" * 100_000, JSON, 400, "too-deep"),
    "too many items": (b"[" + b"1," * 10_000 + b"1]", JSON, 413, "too-many-items"),
    "too many lines": (lines(item(1)) + b"1\n" * 10_000, LINES, 413, "too-many-items"),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_body_that_cannot_be_read_is_refused_and_its_id_is_free(
    poster: Poster, database: Database, name: str
) -> None:
    body, media_type, status, slug = WHOLE[name]
    headers = signed_as_bytes(poster.partner.secret, body)
    answer = await poster.send(body, headers, media_type)
    assert await _refused(answer, database) == (status, slug)
    (result,) = await poster.bring(item(1), id_=headers["webhook-id"])
    assert result["status"] == "counted"


async def test_ten_thousand_items_are_not_too_many(poster: Poster) -> None:
    answer = await poster.post(b"[" + b"1," * 9_999 + b"1]", JSON)
    assert answer.json()["refused"] == 10_000
    assert (await poster.post(b"1\n" * 10_000)).json()["refused"] == 10_000


async def test_nesting_of_32_is_no_fault_of_the_whole(poster: Poster) -> None:
    answer = await poster.post(b"[" + GOOD + b"," + _deep(31) + b"]", JSON)
    assert (answer.json()["counted"], answer.json()["refused"]) == (1, 1)


@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/xml", "application/json; charset=latin-1", "multipart/form-data; boundary=x"],
)
async def test_other_types_are_refused(poster: Poster, database: Database, media_type: str) -> None:
    answer = await poster.send(GOOD, signed(poster.partner.secret, GOOD), media_type)
    assert await _refused(answer, database) == (415, "unsupported-batch-type")


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "gzip, br", "compress", "\u00e9"])
async def test_other_encodings_are_refused(poster: Poster, database: Database, encoding: str) -> None:
    headers = signed(poster.partner.secret, GOOD) | {"content-type": LINES}
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    given.append((b"content-encoding", encoding.encode()))
    answer = await poster.client.post(poster.url, content=GOOD, headers=given)
    assert await _refused(answer, database) == (415, "unsupported-encoding")
    assert answer.headers["accept-encoding"] == "gzip"


PACKED = gzip.compress(lines(*(item(number) for number in range(200))))
BROKEN = {
    "nothing": b"",
    "no gzip": GOOD,
    "cut short": PACKED[: len(PACKED) // 2],
    "without its sum": PACKED[:-4],
    "a wrong sum": PACKED[:-8] + bytes(8),
    "with garbage behind": PACKED + b"garbage",
    "a second part that is cut short": PACKED + PACKED[:-1],
    "zlib": zlib.compress(GOOD),
    "of too many parts": gzip.compress(b"") * 100 + PACKED,
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_gzip_is_refused(poster: Poster, database: Database, name: str) -> None:
    answer = await poster.send(
        BROKEN[name], signed_as_bytes(poster.partner.secret, BROKEN[name]) | {"content-encoding": "gzip"}
    )
    assert await _refused(answer, database) == (400, "broken-gzip")


async def test_a_bomb_is_refused_whoever_sends_it(poster: Poster, database: Database) -> None:
    bomb = gzip.compress(bytes(200 * MEBIBYTE))
    assert len(bomb) < MEBIBYTE
    wrong = signed("whsec_" + "A" * 43 + "=", b"") | {"content-encoding": "gzip"}
    right = signed_as_bytes(poster.partner.secret, bomb) | {"content-encoding": "gzip"}
    assert await _refused(await poster.send(bomb, right), database) == (413, "too-large")
    assert await _refused(await poster.send(bomb, wrong), database) == (413, "too-large")
    # One that lies about its size, and what is no gzip at all: nobody is told who is not known to have signed it.
    for packed in (bomb[:-4] + bytes(4), gzip.compress(GOOD)[:-8] + bytes(8)):
        answers = [await poster.send(packed, wrong)]
        poster.url = "/v1/partners/nobody/signatures"
        answers.append(await poster.send(packed, wrong))
        poster.url = f"/v1/partners/{poster.partner.slug}/signatures"
        for answer in answers:
            assert await _refused(answer, database) == (401, "webhook-not-verified")


async def test_the_size_limit_is_its_own_and_nobody_is_believed_about_it(
    poster: Poster, settings: Settings, partnership: Partner, database: Database
) -> None:
    limit = 2 * MEBIBYTE
    async with serving(settings.model_copy(update={"partner_max_body_bytes": limit})) as (_, _, client):
        small = Poster(client, partnership)
        within = lines(item(1)) + b" " * (limit - len(lines(item(1))))
        assert len(within) > settings.max_body_bytes
        body = within + b" "

        async def in_parts() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 100_000):
                yield body[start : start + 100_000]

        headers = signed(partnership.secret, body) | {"content-type": LINES}
        for content in (body, in_parts()):
            answer = await client.post(small.url, content=content, headers=headers)
            assert await _refused(answer, database) == (413, "too-large")
        packed = gzip.compress(body)
        headers = signed_as_bytes(partnership.secret, packed) | {"content-encoding": "gzip"}
        assert await _refused(await small.send(packed, headers), database) == (413, "too-large")
        assert (await small.post(within)).json()["counted"] == 1
        # Elsewhere bodies are as small as ever.
        secrets = small.url.replace("signatures", "webhook-secrets")
        assert (await client.post(secrets, content=within, headers=partnership.key)).status_code == 413
