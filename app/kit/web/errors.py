"""The exception table: every error of the application becomes a problem (RFC 9457) with its status."""

import re
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from app.kit.logs import failure_of, log
from app.kit.problems import MEDIA_TYPE, TOO_MANY_ERRORS, Conflict, Invalid, Problem, Unavailable, errors_of, render

_TITLES = {
    400: ("bad-request", "The request could not be read"),
    404: ("not-found", "There is no such thing here"),
    405: ("method-not-allowed", "This method is not offered here"),
    413: ("too-large", "The body is larger than the service accepts"),
    415: ("unsupported-media-type", "The body must be application/json"),
    422: ("invalid", "The request is not valid"),
}
_UNIQUE_VIOLATION = "23505"
# Classes of SQLSTATE: connection, authorization, no such database, out of resources, shut down by its operator.
_OUT_OF_REACH = {"08", "28", "3D", "53", "57"}
# No such table, no such column: a migration has not run yet.
_SCHEMA_BEHIND = {"42P01", "42703"}
_METHOD_NOT_ALLOWED = 405


def internal_error(request_id: str) -> Response:
    """The answer to a request that a bug has ended."""
    body = render(500, "internal", "Something broke on our side", request_id)
    return Response(body, 500, media_type=MEDIA_TYPE)


def not_found(request_id: str) -> Response:
    """The answer to a path that leads nowhere."""
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
    errors = [{"at": "body", "message": TOO_MANY_ERRORS}] if status == Invalid.status else ()
    body = render(status, slug, title, request_id_of(request), errors=errors)
    return Response(body, status, headers=headers, media_type=MEDIA_TYPE)


# The exception table proper is `install_error_handlers`, below; these are its entries.
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
    # The framework raises the error once more when this is sent: the request middleware logs it.
    return internal_error(request_id_of(request))


def is_unreachable(error: BaseException) -> bool:
    """Whether this error says that the database could not be reached, rather than that it refused."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or state[:2] in _OUT_OF_REACH or isinstance(error, OperationalError)
    return isinstance(error, PoolTimeoutError | OSError)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of this application a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(DBAPIError, _on_database)
    app.add_exception_handler(PoolTimeoutError, _on_database)
    app.add_exception_handler(OSError, _on_database)
    app.add_exception_handler(Exception, _on_bug)
