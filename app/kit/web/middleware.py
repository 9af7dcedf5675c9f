"""The outer skin of every request: request id, security headers, metrics, and the last resort for errors.

Pure ASGI: it wraps the whole application and costs a few microseconds a request.
"""

import random
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from app.kit import metrics
from app.kit.logs import failure_of, log
from app.kit.problems import MEDIA_TYPE, Conflict, Problem, Unavailable, errors_of, render

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

# Few, because every answer carries them and the server checks each one. The policy forbids framing as well.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
]
HEADERS_OF_DATA = [*_HEADERS, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
# A page of ours brings a policy of its own.
HEADERS_OF_PAGES = [*_HEADERS, (b"referrer-policy", b"no-referrer")]
_TITLES = {
    400: ("bad-request", "The request could not be read"),
    404: ("not-found", "There is no such thing here"),
    405: ("method-not-allowed", "This method is not offered here"),
    413: ("too-large", "The body is larger than the service accepts"),
    415: ("unsupported-media-type", "The body must be application/json"),
}
_UNIQUE_VIOLATION = "23505"
# Classes of SQLSTATE: connection, authorization, no such database, out of resources, shut down by its operator.
_OUT_OF_REACH = {"08", "28", "3D", "53", "57"}
# No such table, no such column: a migration has not run yet.
_SCHEMA_BEHIND = {"42P01", "42703"}
_METHOD_NOT_ALLOWED = 405


class RequestMiddleware:
    """Wraps the application: every answer gets a request id and the security headers, every failure a problem."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = f"{random.getrandbits(64):016x}"
        scope["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                is_page = any(name == b"content-security-policy" for name, _ in headers)
                headers += HEADERS_OF_PAGES if is_page else HEADERS_OF_DATA
                headers.append((b"x-request-id", request_id.encode()))
            await send(message)

        # PostgreSQL cannot even be asked about a NUL, and a read that many share must not fail by one path.
        inner = _nowhere(request_id) if "\x00" in scope["path"] else self._app
        try:
            await inner(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it was, it is logged and answered
            log.error("request failed", request_id=request_id, route=route_of(scope), **failure_of(error))
            if not status:
                await _failed(request_id)(scope, receive, answer)
        finally:
            _observe(scope, status or 500, time.perf_counter() - began)


def route_of(scope: Scope) -> str:
    """The route's template, never the path itself: a path may hold a token."""
    return getattr(scope.get("route"), "path", "unmatched")


_children: dict[tuple[str, str, int], tuple[Any, Any]] = {}


def _observe(scope: Scope, status: int, seconds: float) -> None:
    key = (scope["method"] if scope["method"] in _METHODS else "OTHER", route_of(scope), status)
    children = _children.get(key)
    if children is None:
        children = (
            metrics.requests.labels(key[0], key[1], str(status)),
            metrics.request_seconds.labels(key[1]),
        )
        _children[key] = children
    children[0].inc()
    children[1].observe(seconds)


_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}


def _failed(request_id: str) -> Response:
    body = render(500, "internal", "Something broke on our side", request_id)
    return Response(body, 500, media_type=MEDIA_TYPE)


def _nowhere(request_id: str) -> Response:
    return Response(render(404, *_TITLES[404], request_id), 404, media_type=MEDIA_TYPE)


def request_id_of(request: Request) -> str:
    """The id under which this request stands in the logs and in its answer."""
    return str(request.scope.get("request_id", ""))


def problem_response(request: Request, problem: Problem) -> Response:
    """A problem as the answer to this request."""
    return Response(
        problem.body(request_id_of(request)), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def _plain(request: Request, status: int, headers: dict[str, str] | None = None) -> Response:
    slug, title = _TITLES.get(status, ("error", "The request could not be met"))
    return Response(render(status, slug, title, request_id_of(request)), status, headers=headers, media_type=MEDIA_TYPE)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(request, error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED:
        headers["Allow"] = _offered(request) or headers.get("Allow", "")
    return _plain(request, error.status_code, headers)


def _offered(request: Request) -> str:
    """All methods of the path (RFC 9110, section 15.5.6): the framework names those of one route alone."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    here = [methods for template, methods in paths.items() if _regex(template).match(request.scope["path"])]
    return ", ".join(sorted(method.upper() for methods in here for method in methods))


@cache
def _regex(template: str) -> re.Pattern[str]:
    return compile_path(template)[0]


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    body = render(422, "invalid", "The request is not valid", request_id_of(request), errors=errors_of(error.errors()))
    return Response(body, 422, media_type=MEDIA_TYPE)


async def _on_database(request: Request, error: Exception) -> Response:
    """A lost race for a unique key is a conflict; a database out of reach is a 503; the rest is a bug."""
    state = getattr(getattr(error, "orig", None), "sqlstate", "")
    if state == _UNIQUE_VIOLATION:
        return problem_response(request, Conflict("Something with this name exists already."))
    if state in _SCHEMA_BEHIND:
        log.error("schema behind", request_id=request_id_of(request), **failure_of(error))
        return problem_response(request, Unavailable("The database's schema is behind.", retry_after=10))
    if is_unreachable(error):
        log.error("database unreachable", request_id=request_id_of(request), **failure_of(error))
        return problem_response(request, Unavailable("The database cannot be reached.", retry_after=2))
    raise error


async def _on_bug(request: Request, _error: Exception) -> Response:
    # The framework raises the error once more when this is sent: the skin logs it.
    return _failed(request_id_of(request))


def is_unreachable(error: BaseException) -> bool:
    """Whether this error says that the database could not be reached, rather than that it refused."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or state[:2] in _OUT_OF_REACH or isinstance(error, OperationalError)
    return isinstance(error, PoolTimeoutError | OSError)


def install(app: FastAPI) -> None:
    """Make every error of this application a problem, and wrap it in its skin."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(DBAPIError, _on_database)
    app.add_exception_handler(PoolTimeoutError, _on_database)
    app.add_exception_handler(OSError, _on_database)
    app.add_exception_handler(Exception, _on_bug)
