"""Bodies validated straight from their bytes: pydantic's own JSON parser, without a Python object in between.

An ordinary FastAPI body costs twice as much. These functions also write the schema an ordinary one would have had.
"""

import asyncio
import re
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from app.kit.problems import Problem
from app.kit.web.middleware import Asgi, Message, Receive, Scope, Send

Model = TypeVar("Model", bound=BaseModel)

# Seconds. Whoever sends a byte now and then would otherwise hold memory for as long as they like.
_PATIENCE = 10


class TooLarge(Problem):
    """The body is larger than the service accepts."""

    status = 413
    slug = "too-large"


class TooSlow(Problem):
    """The body did not arrive in time."""

    status = 408
    slug = "too-slow"


class NotJson(Problem):
    """The body must be application/json."""

    status = 415
    slug = "unsupported-media-type"


class BodyLimit:
    """Ends the reading of a body that is too large, whatever length was announced.

    FastAPI's own `max_body_size` does the same, but answers plain text. Paths that `own` matches keep a limit of their
    own (`large_bodies.py`).
    """

    def __init__(self, app: Asgi, limit: int, own: re.Pattern[str]) -> None:
        self._app = app
        self._limit = limit
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._own.fullmatch(scope.get("path", "")):
            await self._app(scope, receive, send)
            return
        length = 0

        async def limited() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            if length > self._limit:
                raise HTTPException(TooLarge.status)
            return message

        await self._app(scope, limited, send)


async def read_body(request: Request, model: type[Model], longest: int) -> Model:
    """The request's body as a model; a problem when it is not JSON, longer than `longest` bytes, or not valid."""
    if not _is_json(request):
        raise NotJson
    try:
        return model.model_validate_json(await _read(request, longest))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in found]) from None


def _is_json(request: Request) -> bool:
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            return bool(value.partition(b";")[0].strip().lower() == b"application/json")
    return False


async def _read(request: Request, longest: int) -> bytes:
    # The fast lane passes by `BodyLimit`, so the limit is kept here.
    longest = min(longest, request.app.state.settings.max_body_bytes)
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body += await _rest(request, longest - len(body))
    if len(body) > longest:
        raise TooLarge
    return body


async def _rest(request: Request, longest: int) -> bytes:
    """What follows of a body in several parts, up to a little more than `longest`; TooSlow."""
    rest, more = b"", True
    try:
        async with asyncio.timeout(_PATIENCE):
            while more and len(rest) <= longest:
                message = await request.receive()
                rest += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        raise TooSlow from None
    return rest


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body with `read_body`; `openapi.py` resolves the reference."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}
