"""What the guards look at: the application, everything it answers to, and a key for every role."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from app.kit.database.session import Database
from app.main import create_api
from app.settings import Settings
from tests.support.types import Headers, Json

BODY_LIMIT = 64 * 1024
MEDIA_TYPE = "application/problem+json"
_FIELDS = {"type", "title", "status", "request_id", "detail", "errors"}


@dataclass(frozen=True)
class House:
    """The application, its database, and headers by role; `anonymous` has none."""

    api: FastAPI
    client: httpx.AsyncClient
    database: Database
    settings: Settings
    keys: dict[str, Headers]

    def allowed(self, path: str) -> Headers:
        """The headers of somebody who may call this: the owner, the person whose own page it is, or the partner."""
        if path.endswith(("/accept", "/decline")):
            return self.keys["partner"]
        return self.keys["person" if path.startswith("/v1/me") else "owner"]


def operations(api: FastAPI) -> Iterator[tuple[str, str, Json]]:
    """Everything the service offers, as (method, path, operation)."""
    for path, methods in api.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def problem_of(answer: httpx.Response) -> Json:
    """The problem this answer is, once it is shown to be one in every respect."""
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    problem: Json = answer.json()
    assert {"type", "title", "status", "request_id"} <= set(problem) <= _FIELDS
    assert problem["type"].startswith("urn:multitude:problem:")
    assert problem["title"]
    assert problem["status"] == answer.status_code >= 400
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


def filled(path: str, value: str) -> str:
    """The path with every parameter replaced by this value."""
    return re.sub(r"\{\w+\}", value, path)


def by_no_key(operation: Json) -> bool:
    """Whether nobody gets in by a key, but by a signature or by what another system has for a token."""
    security = operation.get("security", [{}])
    return {} not in security and {"key": []} not in security


DESCRIBED = create_api(Settings.model_validate({"database_url": "postgresql://unused", "secret_keys": "-" * 32}))
OPERATIONS = list(operations(DESCRIBED))


def _one_test_for(offered: list[tuple[str, str, Json]]) -> pytest.MarkDecorator:
    cases = [pytest.param(*one, id=f"{one[0]} {one[1]}") for one in offered]
    return pytest.mark.parametrize(("method", "path", "operation"), cases)


everywhere = _one_test_for(OPERATIONS)
everywhere_with_a_body = _one_test_for([one for one in OPERATIONS if "requestBody" in one[2]])
