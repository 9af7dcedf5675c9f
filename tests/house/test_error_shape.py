"""Whatever is sent to whichever route: a problem in one shape, never a 500, and nothing of what was sent."""

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest

from app.kit.metrics import exposition
from tests.support.api_surface import (
    BODY_LIMIT,
    OPERATIONS,
    House,
    by_no_key,
    everywhere,
    everywhere_with_a_body,
    filled,
    problem_of,
)
from tests.support.types import Json

MARKER = "Xx-echo-marker@example.org"
TRACES = ("xx-echo-marker", quote(MARKER).lower())
JSON = {"Content-Type": "application/json"}
# Everything a client may send beside the path and the body.
HEADERS = dict.fromkeys(
    ("Cookie", "X-Marker", "Accept-Language", "If-None-Match", "Last-Event-ID", "Origin", "User-Agent"), MARKER
)
QUERY = dict.fromkeys(("limit", "cursor", "state", "by", MARKER), MARKER)

BODIES = {
    "nothing": b"",
    "no JSON": b'{"' + MARKER.encode(),
    "not UTF-8": MARKER.encode() + b"\xff",
    "another encoding": json.dumps({MARKER: MARKER}).encode("utf-16"),
    "half a surrogate": b'{"\\ud800": "\\ud800 Xx-echo-marker"}',
    "a NUL": json.dumps({"receipt": f"\0{MARKER}", MARKER: "\0"}).encode(),
    "a string": json.dumps(MARKER).encode(),
    "a list": json.dumps([MARKER, {MARKER: MARKER}]).encode(),
    "a number": b"1" * 5000,
    "no number": b'{"Xx-echo-marker": NaN}',
    "too deep": b"[" * 20_000,
    "unknown fields": json.dumps({MARKER: MARKER}).encode(),
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "XX-ECHO-MARKER")


def _silent(answer: httpx.Response) -> httpx.Response:
    told = (answer.text + str(answer.headers.raw)).lower()
    assert not [trace for trace in TRACES if trace in told], told
    return answer


def _shaped(answer: httpx.Response) -> int:
    """The status, once it is shown that the answer is sound or a problem, and never a failure of ours."""
    _silent(answer)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        problem_of(answer)
    return answer.status_code


def _marked(operation: Json, schemas: Json) -> bytes:
    """A body in which every field the route knows holds the marker."""
    body: Json = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    named = json.dumps(body).partition("#/components/schemas/")[2].partition('"')[0]
    fields = schemas.get(named, {}).get("properties", {})
    return json.dumps(dict.fromkeys([*fields, "x"], MARKER)).encode()


@everywhere
@pytest.mark.parametrize("role", ["anonymous", "owner"])
async def test_a_malformed_call_is_answered_with_a_problem(
    house: House, role: str, method: str, path: str, operation: Json
) -> None:
    known = _marked(operation, house.api.openapi()["components"]["schemas"])
    for body in (*BODIES.values(), known):
        for at in ("nowhere", quote(MARKER)):
            url = filled(path, at)
            headers = {**house.keys[role], **HEADERS, **JSON}
            _shaped(await house.client.request(method, url, params=QUERY, headers=headers, content=body))


@everywhere
async def test_a_credential_that_opens_nothing_is_not_repeated(
    house: House, method: str, path: str, operation: Json
) -> None:
    for value in (f"Bearer {MARKER}", f"Basic {MARKER}", MARKER, f"Bearer mtd_owner_{'x' * 43}"):
        answer = await house.client.request(method, filled(path, "nowhere"), headers={"Authorization": value})
        status = _shaped(answer)
        if "security" in operation:
            assert status == 401
            assert by_no_key(operation) or answer.headers["www-authenticate"] == "Bearer"


@everywhere
async def test_odd_paths_lead_nowhere(house: House, method: str, path: str, operation: Json) -> None:
    odd = ("%00", "%FF%FE", "%2F", "..%2F..", "%F0%9F%92%A9", "a" * 3000, quote(MARKER), "%E2%80%AE", "-", "%25s")
    for value in odd if "{" in path else ():
        headers = house.allowed(path) | JSON
        status = _shaped(await house.client.request(method, filled(path, value), headers=headers, content=b"{}"))
        assert status in ({401, 404, 405} if by_no_key(operation) else {404, 405, 422})
    assert _shaped(await house.client.request(method, f"{filled(path, 'x')}/{MARKER}")) in {401, 404, 405}


@pytest.mark.parametrize("path", sorted({path for _, path, _ in OPERATIONS}))
async def test_a_method_that_is_not_offered_is_refused(house: House, path: str) -> None:
    offered = {method for method, at, _ in OPERATIONS if at == path}
    for method in set(METHODS) - offered:
        answer = await house.client.request(method, filled(path, "nowhere"), headers=house.keys["owner"])
        assert _shaped(answer) == 405
        assert set(answer.headers["allow"].split(", ")) == offered


@pytest.mark.parametrize(
    "path", ["/", f"/{MARKER}", f"/v1/{MARKER}", f"/docs/{MARKER}", "/v1/campaigns/", "//", "/v1/"]
)
async def test_an_unknown_path_is_not_found(house: House, path: str) -> None:
    assert _shaped(await house.client.get(f"http://multitude.test{quote(path)}", params=QUERY)) == 404


@everywhere_with_a_body
async def test_a_body_over_the_limit_is_refused(house: House, method: str, path: str, operation: Json) -> None:
    url, headers = filled(path, "nowhere"), house.allowed(path) | JSON
    body = b'"' + b"x" * BODY_LIMIT + b'"'
    # Whoever gets in by no key is looked at first, and may have a limit of their own (`tests/partners`).
    refused = {401, 413} if by_no_key(operation) else {413}
    assert _shaped(await house.client.request(method, url, headers=headers, content=body)) in refused

    async def in_parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    # Nobody is believed who does not say how much will come.
    assert _shaped(await house.client.request(method, url, headers=headers, content=in_parts())) in refused


READ_BY_HAND = {("POST", "/v1/petitions/{petition}/signatures"), ("POST", "/v1/confirmations")}


@everywhere_with_a_body
async def test_a_body_that_is_not_json_is_refused(house: House, method: str, path: str, operation: Json) -> None:
    for media_type in ("text/plain", "application/xml", MARKER, "multipart/form-data; boundary=x"):
        headers = house.allowed(path) | {"Content-Type": media_type}
        answer = await house.client.request(method, filled(path, "nowhere"), headers=headers, content=b"{}")
        refused = {401, 415} if by_no_key(operation) else {415 if (method, path) in READ_BY_HAND else 422}
        assert _shaped(answer) in refused


async def test_metrics_name_routes_and_nothing_that_was_sent(house: House) -> None:
    for method in METHODS:
        await house.client.request(method, f"/v1/petitions/{MARKER}", params=QUERY, headers=HEADERS)
    told = exposition().decode().lower()
    assert "/v1/petitions/{petition}" in told
    assert TRACES[0] not in told
