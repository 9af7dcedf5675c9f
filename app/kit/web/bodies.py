"""Request bodies, validated straight from their bytes by pydantic's own JSON parser, without Python objects in between.

An ordinary FastAPI body costs twice as much. These functions also give OpenAPI the schema that FastAPI would have.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, compile_path

from app.kit.problems import Problem
from app.kit.web.asgi import Asgi, Message, Receive, Scope, Send

Model = TypeVar("Model", bound=BaseModel)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

# Seconds. A client that sends a byte now and then would otherwise hold memory for as long as it likes.
_BODY_TIMEOUT = 10


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


def reads_large_body(endpoint: Endpoint) -> Endpoint:
    """Mark a route: it reads its body itself, within bounds of its own (`large_bodies.py`), larger than elsewhere."""
    endpoint.reads_large_body = True  # type: ignore[attr-defined]
    return endpoint


class BodyLimit:
    """Middleware that stops reading a body that is too large, whatever length was announced.

    FastAPI's own `max_body_size` does the same, but answers plain text. Of `routes`, which are looked at once, when the
    service starts, those that are marked by `reads_large_body` are left alone.
    """

    def __init__(self, app: Asgi, limit: int, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._limit = limit
        self._large = [compile_path(path)[0] for path in _marked_paths(routes)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if any(pattern.match(path) for pattern in self._large):
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


def _marked_paths(routes: Sequence[BaseRoute]) -> list[str]:
    found = ((context.path or "", context.original_route) for context in iter_route_contexts(routes))
    return [path for path, route in found if isinstance(route, APIRoute) and _is_marked(route.endpoint)]


def _is_marked(endpoint: Callable[..., Any]) -> bool:
    return getattr(endpoint, "reads_large_body", False)


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
    longest = min(longest, request.app.state.services.settings.max_body_bytes)
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body += await _rest(request, longest - len(body))
    if len(body) > longest:
        raise TooLarge
    return body


async def _rest(request: Request, longest: int) -> bytes:
    """The rest of a body that comes in several parts, up to a little more than `longest`; TooSlow."""
    rest, more = b"", True
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
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
