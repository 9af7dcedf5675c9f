"""OpenAPI: the API's description (3.1), with every error as a problem."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from app.kit.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"


class ProblemError(BaseModel):
    """One thing that is wrong with the request."""

    at: str = Field(examples=["body.email"])
    message: str


class ProblemView(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:multitude:problem:not-found"])
    title: str
    status: int
    request_id: str
    detail: str | None = None
    errors: list[ProblemError] = []


_PROBLEM = {
    "description": "A problem (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ProblemView")}}},
}


def describe(api: FastAPI, *, read_by_hand: Sequence[type[BaseModel]]) -> None:
    """Make `api.openapi()` complete; `read_by_hand` are bodies whose routes read them with `kit/web/bodies.py`."""

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(
                title=api.title,
                version=api.version,
                summary=api.summary,
                routes=api.routes,
                webhooks=api.webhooks.routes,
            )
            api.openapi_schema = _completed(schema, read_by_hand)
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def as_text(api: FastAPI) -> str:
    """The description as it is committed: indented JSON, for readable diffs."""
    return json.dumps(api.openapi(), indent=2, ensure_ascii=False) + "\n"


def _completed(schema: dict[str, Any], read_by_hand: Sequence[type[BaseModel]]) -> dict[str, Any]:
    models = [(model, "validation") for model in (*read_by_hand, ProblemView)]
    _, definitions = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _PROBLEM
    for operations in schema.get("webhooks", {}).values():
        for operation in operations.values():
            # Partners' endpoints answer these, and not with our problems.
            operation["responses"] = {k: v for k, v in operation["responses"].items() if k not in {"204", "422"}}
    return schema
