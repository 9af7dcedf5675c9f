"""No body makes more work than its route needs: few errors are built of it, and small bodies are small.

On the code before, 70,000 unknown fields in 1 MiB took 0.42 s of the event loop and were answered with 4.7 MB.
"""

import json
import re
import sys
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from app.kit.problems import MOST_ERRORS, TOO_MANY_ERRORS
from app.kit.web.bodies import MOST_FIELDS, SMALL_BODY, has_too_many_fields, longest_body_of
from tests.support.api_surface import (
    BODY_LIMIT,
    DESCRIBED,
    OPERATIONS,
    House,
    by_no_key,
    everywhere_with_a_body,
    filled,
    problem_of,
)
from tests.support.types import Json

JSON = {"Content-Type": "application/json"}
# The longest form of a letter outside the Latin alphabet: \u0627.
ESCAPED = 6
LONGEST = {
    (method, context.path): longest_body_of(context.original_route.endpoint)
    for context in iter_route_contexts(DESCRIBED.routes)
    if isinstance(context.original_route, APIRoute)
    for method in context.methods or ()
}

BODIES = [
    pytest.param(method, path, content["application/json"]["schema"], id=f"{method} {path}")
    for method, path, operation in OPERATIONS
    if "application/json" in (content := operation.get("requestBody", {}).get("content", {}))
]


def many_mistakes(size: int) -> list[bytes]:
    """Bodies of this size at the most, with as many mistakes as there is room for: in an object, and in a list."""
    fields = ",".join(f'"{number:x}":0' for number in range(size // 7 - 8))[: size - 8].rpartition(",")[0]
    some = "{" + ",".join(f'"{number:x}":0' for number in range(MOST_ERRORS - 2)) + "}"
    items = ",".join([some] * min(99, size // len(some) - 2))
    return [f"{{{fields}}}".encode(), f"[{items}]".encode(), f'{{"targets":[{items}],"consents":[{items}]}}'.encode()]


@everywhere_with_a_body
async def test_few_errors_are_built_of_any_body(house: House, method: str, path: str, operation: Json) -> None:
    headers = house.allowed(path) | JSON
    for body in many_mistakes(min(LONGEST[method, path], BODY_LIMIT) // 2):
        answer = await house.client.request(method, filled(path, "nowhere"), headers=headers, content=body)
        problem = problem_of(answer)
        assert len(problem.get("errors", [])) <= MOST_ERRORS
        assert len(answer.content) < 4096


@everywhere_with_a_body
async def test_more_fields_than_any_body_has_are_refused_unread(
    house: House, method: str, path: str, operation: Json
) -> None:
    """Nobody looks at what they are: one would be told of 21 or more mistakes otherwise, and pay for each."""
    if by_no_key(operation):
        pytest.skip("its items are counted each by itself, as below")
    headers = house.allowed(path) | JSON
    names = ",".join(f'"{number:x}":0' for number in range(MOST_FIELDS + 1))
    # Whatever follows is not even parsed.
    for body in (
        f"{{{names}",
        f"{{{names}}}".replace(":", " :"),
        f'{{"a":[{{{names}}}]',
        f"{{{names}}}".encode("utf-16"),
    ):
        if len(body) > LONGEST[method, path]:
            continue
        answer = await house.client.request(method, filled(path, "nowhere"), headers=headers, content=body)
        problem = problem_of(answer)
        assert (answer.status_code, problem["type"]) == (422, "urn:multitude:problem:invalid")
        assert problem["errors"] == [{"at": "body", "message": TOO_MANY_ERRORS}]


def test_only_names_of_fields_are_counted() -> None:
    many = MOST_FIELDS + 1
    text = json.dumps({"comment": '":' * many + "\\", "website": "http://" * many})
    assert not has_too_many_fields(text.encode())
    fields = [f'"{number:x}":{{}}' for number in range(many)]
    assert not has_too_many_fields(",".join(fields[1:]).encode())
    assert has_too_many_fields(",".join(fields).encode())
    assert has_too_many_fields(",".join(fields).replace('":', '\\\\"\n:').encode())
    # However long a string that does not end.
    assert not has_too_many_fields(b'"' + b":" * 500_000)
    assert not has_too_many_fields(b":" * many + b'"' + b'\\"' * 250_000 + b"\\")


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
def test_whatever_the_schema_allows_has_fewer_fields(method: str, path: str, schema: Json) -> None:
    if LONGEST[method, path] == sys.maxsize:
        pytest.skip("its items are counted each by itself")
    assert _fields(schema) <= MOST_FIELDS


def _fields(schema: Any) -> int:
    """How many names of fields a body of this schema holds at the most."""
    if "$ref" in schema:
        return _fields(DESCRIBED.openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return max(map(_fields, schema[several]))
    if schema.get("type") == "array":
        each = _fields(schema["items"])
        return each * int(schema.get("maxItems", MOST_FIELDS + 1))
    return sum(1 + _fields(value) for value in schema.get("properties", {}).values())


@everywhere_with_a_body
async def test_a_route_reads_no_more_than_it_says(house: House, method: str, path: str, operation: Json) -> None:
    longest = LONGEST[method, path]
    if longest > BODY_LIMIT or by_no_key(operation):
        pytest.skip("it has a limit of its own, tested with what it reads")
    headers = house.allowed(path) | JSON
    for size, refused in ((longest, {400, 404, 409, 422, 201, 200}), (longest + 1, {413})):
        body = b'"' + b"x" * (size - 2) + b'"'
        answer = await house.client.request(method, filled(path, "nowhere"), headers=headers, content=body)
        assert answer.status_code in refused, size


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
def test_whatever_the_schema_allows_fits_into_the_limit(method: str, path: str, schema: Json) -> None:
    largest = _largest(schema)
    longest = LONGEST[method, path]
    if largest is None or (method, path) in ROOMY:
        assert longest >= ROOMY.get((method, path), SMALL_BODY)
    else:
        assert largest <= longest


# Whose schema sets no bounds, or sets them for each field far above what all together ever hold; with what must fit.
ROOMY = {
    ("POST", "/v1/petitions/{petition}/signatures"): 32 * 1024,
    # A thousand ids or slugs of petitions, beside the terms.
    ("POST", "/v1/campaigns/{campaign}/partnerships"): 1000 * 84 + 20_000 * ESCAPED,
    # A thousand of each kind.
    ("POST", "/v1/petitions/{petition}/invalidations"): 1000 * (256 + 20 + 70 + 8),
    ("POST", "/v1/osdi/petitions/{petition}/record_signature_helper"): 64 * 1024,
}


def _largest(schema: Any) -> int | None:
    """Bytes of the largest body of this schema; None when it has no bounds."""
    if "$ref" in schema:
        return _largest(DESCRIBED.openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            sizes = [_largest(one) for one in schema[several]]
            return None if None in sizes else max(size for size in sizes if size is not None)
    if "const" in schema or "enum" in schema:
        return max(len(json.dumps(value)) for value in schema.get("enum", [schema.get("const")]))
    return _largest_of_type(schema)


def _largest_of_type(schema: Any) -> int | None:
    kind = schema.get("type")
    if kind == "string" and "maxLength" in schema:
        is_ascii = "pattern" in schema and not re.search(r"\\p|\[\^", schema["pattern"])
        return 2 + int(schema["maxLength"]) * (1 if is_ascii else ESCAPED)
    if kind == "array" and "maxItems" in schema:
        size = _largest(schema["items"])
        return None if size is None else 2 + schema["maxItems"] * (size + 2)
    if kind == "object" and "properties" in schema:
        sizes = {name: _largest(value) for name, value in schema["properties"].items()}
        known = [len(name) + 6 + size for name, size in sizes.items() if size is not None]
        return 2 + sum(known) if len(known) == len(sizes) else None
    fixed = {"integer": 24, "number": 24, "boolean": 5, "null": 4}
    return 64 if "format" in schema else fixed.get(kind)
