"""The committed description is the code's own, and whole."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.kit.web.openapi import as_text
from tests.support.api_surface import DESCRIBED, OPERATIONS, everywhere, everywhere_with_a_body
from tests.support.types import Json

SCHEMAS: Json = DESCRIBED.openapi()["components"]["schemas"]
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemView"}}}


def _parts(value: Any, at: str = "") -> Iterator[tuple[str, Json]]:
    """Every object of the description and where it is."""
    if isinstance(value, dict):
        yield at, value
        for name, part in value.items():
            yield from _parts(part, f"{at}/{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _parts(part, f"{at}/{number}")


def test_the_committed_description_is_current(root: Path) -> None:
    committed = (root / "openapi" / "openapi.json").read_text(encoding="utf-8")
    assert committed == as_text(DESCRIBED), "it is stale: run `make openapi`"


def test_it_is_openapi_3_1() -> None:
    description = DESCRIBED.openapi()
    assert description["openapi"].startswith("3.1.")
    assert set(description["info"]) >= {"title", "version", "summary"}
    assert set(description) <= {"openapi", "info", "paths", "webhooks", "components", "tags", "servers"}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    referred = {part["$ref"] for _, part in _parts(DESCRIBED.openapi()) if "$ref" in part}
    assert referred == {f"#/components/schemas/{name}" for name in SCHEMAS}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_is_one(name: str) -> None:
    jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[name]})
    # Resolves what it refers to and compiles every pattern.
    jsonschema_rs.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}})


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_example_is_valid(name: str) -> None:
    whole = {"components": {"schemas": SCHEMAS}}
    for at, part in _parts(SCHEMAS[name], f"#/components/schemas/{name}"):
        if "properties" in at.rpartition("/")[2]:
            continue
        for example in part.get("examples", []):
            jsonschema_rs.Draft202012Validator({**part, **whole}).validate(example)


def test_every_operation_has_a_name_of_its_own() -> None:
    names = Counter(operation["operationId"] for _, _, operation in OPERATIONS)
    assert set(names.values()) == {1}
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z_]*[a-z]", name)] == []


@everywhere
def test_every_operation_is_described(method: str, path: str, operation: Json) -> None:
    assert operation["description"]
    assert operation["tags"]
    assert operation["responses"]["default"]["content"] == PROBLEM
    assert "422" not in operation["responses"]
    named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
    assert named == set(re.findall(r"\{(\w+)\}", path))
    assert path in {"/healthz", "/readyz"} or path.startswith("/v1/")
    # What cannot be undone may wait.
    waits = ["202"] if "PendingActView" in str(operation["responses"].get("202")) else []
    successes = [status for status in operation["responses"] if status not in {"default", *waits}]
    assert len(successes) == 1
    assert successes[0] in {"POST": {"201", "200", "202"}, "DELETE": {"204", "200"}}.get(method, {"200"})


def _named(part: Any) -> set[str]:
    """The schemas this part refers to, those they refer to included."""
    found: set[str] = set()
    waiting = [part]
    while waiting:
        names = {p["$ref"].rpartition("/")[2] for _, p in _parts(waiting.pop()) if "$ref" in p} - found
        found |= names
        waiting += [SCHEMAS[name] for name in names]
    return found


# Other systems send much that we have no use for.
OF_OTHERS = ("/record_signature_helper", "/action-network/{token}", "/controlshift")


@everywhere_with_a_body
def test_every_body_is_closed(method: str, path: str, operation: Json) -> None:
    """A field nobody knows is most often a misspelt one: it is refused, and the description says so."""
    if path.endswith(OF_OTHERS):
        return
    names = _named(operation["requestBody"])
    assert names
    assert [name for name in names if SCHEMAS[name].get("additionalProperties") is not False] == []


def test_no_answer_names_what_opens_or_digests() -> None:
    """Digests, sealed values and signers never leave."""
    shown = {name for schema in SCHEMAS.values() for name in schema.get("properties", {})}
    assert shown & {"digest", "sealed", "signer", "fingerprint"} == set()
    assert [name for name, schema in SCHEMAS.items() if "secret" in schema.get("properties", {})] == [
        "EndpointSecretView",
        "NewWebhookEndpointView",
        "NewWebhookSecretView",
        "WebhookSecretBody",
    ]
    assert [name for name, schema in SCHEMAS.items() if "key" in schema.get("properties", {})] == [
        "KeyCount",
        "NewApiKeyView",
        "NewSessionView",
        "TallyRow",
        "TrendRow",
    ]


def test_the_writer_writes_what_is_committed(root: Path) -> None:
    assert json.loads(as_text(DESCRIBED)) == DESCRIBED.openapi()
    assert "as_text(" in (root / "openapi" / "__main__.py").read_text(encoding="utf-8")
