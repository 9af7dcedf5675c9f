"""Request bodies, validated straight from their bytes by pydantic's own JSON parser, without Python objects in between.

An ordinary FastAPI body costs twice as much. These functions also give OpenAPI the schema that FastAPI would have.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, compile_path

from app.kit.problems import Invalid, Problem, details_of
from app.kit.settings import KIBIBYTE
from app.kit.web.asgi import Asgi, Message, Receive, Scope, Send

Model = TypeVar("Model", bound=BaseModel)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

# Seconds. A client that sends a byte now and then would otherwise hold memory for as long as it likes.
_BODY_TIMEOUT = 10


class TooLarge(Problem):
    """The body is larger than the service accepts."""

    status = 413
    slug = "too-large"


class TooManyFields(HTTPException):
    """The body holds more fields than any body has: 422, as for a body that is not valid.

    What is raised while FastAPI reads a body must be an `HTTPException`, or becomes a 400.
    """

    def __init__(self) -> None:
        super().__init__(Invalid.status)


class TooSlow(Problem):
    """The body did not arrive in time."""

    status = 408
    slug = "too-slow"


class NotJson(Problem):
    """The body must be application/json."""

    status = 415
    slug = "unsupported-media-type"


# Names of fields that a body may hold: a campaign with all its targets and consents has 312, other bodies fewer.
# An unknown one takes a microsecond of the event loop, and a body has room for thousands.
MOST_FIELDS = 400
# A string as a whole, with the colon behind it that makes it a field's name. One that does not end is one as well, or
# each quotation mark in it would be tried as the beginning of another.
_NAME = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"[ \t\r\n]*+(:?))?', re.DOTALL)

# Bytes a route reads unless it says more: forms of a few fields, with room to spare.
SMALL_BODY = 16 * KIBIBYTE


def longest_body(size: int) -> Callable[[Endpoint], Endpoint]:
    """Mark a route: its body may be so many bytes, for its fields hold more than `SMALL_BODY`."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.longest_body = size  # type: ignore[attr-defined]
        return endpoint

    return mark


def reads_large_body(endpoint: Endpoint) -> Endpoint:
    """Mark a route: it reads its body itself, within bounds of its own (`large_bodies.py`), larger than elsewhere."""
    return longest_body(sys.maxsize)(endpoint)


def longest_body_of(endpoint: Callable[..., Any]) -> int:
    """How many bytes this route's body may be; `sys.maxsize` when it has bounds of its own."""
    marked: int = getattr(endpoint, "longest_body", SMALL_BODY)
    return marked


def has_too_many_fields(body: bytes) -> bool:
    """Whether this JSON text holds more than `MOST_FIELDS` names of fields. It need not be valid."""
    if body.count(b":") <= MOST_FIELDS:
        return False
    # UTF-16 and UTF-32, which have NULs, would be read as well: there every colon is taken for one behind a name.
    return b"\0" in body or sum(map(len, _NAME.findall(body))) > MOST_FIELDS


class BodyLimit:
    """Middleware that stops reading a body that is too large, whatever length was announced, or has too many fields.

    FastAPI's own `max_body_size` does the same, but answers plain text. A body may be `SMALL_BODY` bytes, or what its
    route is marked with, and never more than `limit`, unless the route has bounds of its own. The `routes` are looked
    at once, when the service starts.
    """

    def __init__(self, app: Asgi, limit: int, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._limit = limit
        self._marked = list(_marked_routes(routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length, longest = 0, min(SMALL_BODY, self._limit)
        parts: list[bytes] = []

        async def limited() -> Message:
            nonlocal length, longest
            message = await receive()
            part = message.get("body", b"")
            length += len(part)
            if length > longest:
                longest = self._longest(scope)
                if length > longest:
                    raise HTTPException(TooLarge.status)
            if longest != sys.maxsize:
                parts.append(part)
                if not message.get("more_body") and self._refuses_fields(scope, b"".join(parts)):
                    raise TooManyFields
            return message

        await self._app(scope, limited, send)

    def _refuses_fields(self, scope: Scope, body: bytes) -> bool:
        # A route with bounds of its own counts what it reads.
        return has_too_many_fields(body) and self._longest(scope) != sys.maxsize

    def _longest(self, scope: Scope) -> int:
        found = (size for method, path, size in self._marked if method == scope["method"] and path.match(scope["path"]))
        size = next(found, SMALL_BODY)
        return size if size == sys.maxsize else min(size, self._limit)


def _marked_routes(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, re.Pattern[str], int]]:
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, APIRoute) and (size := longest_body_of(route.endpoint)) != SMALL_BODY:
            for method in route.methods or ():
                yield method, compile_path(context.path or "")[0], size


async def read_body(request: Request, model: type[Model], longest: int) -> Model:
    """The request's body as a model; a problem when it is not JSON, longer than `longest` bytes, or not valid."""
    if not _is_json(request):
        raise NotJson
    body = await _read(request, longest)
    if has_too_many_fields(body):
        raise TooManyFields
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in details_of(error)]) from None


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
