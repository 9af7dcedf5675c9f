"""Errors as RFC 9457 `application/problem+json`.

    Problem
    ├── NotFound          404
    ├── Conflict          409
    ├── Invalid           422
    ├── Unauthorized      401
    ├── Forbidden         403
    └── Unavailable       503, with Retry-After

A room subclasses these next to the service that raises them. The first line of the class's docstring is the
`title`; the optional argument is the `detail`. Neither ever repeats what the client sent: it may be personal.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

# Errors that are told of one request, or of one item of it. Each takes microseconds of the event loop to build, and who
# has made more mistakes than that has misread the whole.
MOST_ERRORS = 20
TOO_MANY_ERRORS = f"more than {MOST_ERRORS} things are wrong here"
_SAFE_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - RFC 9457 names the thing a problem
    """The request could not be met."""

    status = 400
    slug = "bad-request"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(self.slug)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or cls.slug).strip().splitlines()[0].rstrip(".")

    def body(self, request_id: str) -> bytes:
        return render(self.status, self.slug, self.title(), request_id, self.detail, self.errors)


class NotFound(Problem):
    """There is no such thing here."""

    status = 404
    slug = "not-found"


class Conflict(Problem):
    """The present state does not allow this."""

    status = 409
    slug = "conflict"


class Invalid(Problem):
    """The request is not valid."""

    status = 422
    slug = "invalid"


class Unauthorized(Problem):
    """A valid key is needed."""

    status = 401
    slug = "unauthorized"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    """The key does not allow this."""

    status = 403
    slug = "forbidden"


class Unavailable(Problem):
    """The service cannot answer right now; try again."""

    status = 503
    slug = "unavailable"

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class OperatorError(Exception):
    """A failure whose message is a sentence for whoever runs the service: no answer, no traceback."""


def render(
    status: int,
    slug: str,
    title: str,
    request_id: str,
    detail: str | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """The body of a problem, UTF-8 JSON."""
    body: dict[str, Any] = {
        "type": f"urn:multitude:problem:{slug}",
        "title": title,
        "status": status,
        "request_id": request_id,
    }
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = list(errors)
    return json.dumps(body, ensure_ascii=False).encode()


def details_of(error: ValidationError) -> list[Mapping[str, Any]]:
    """Pydantic's errors, without the input; one that says so when there are more than `MOST_ERRORS`.

    The only place that builds them: pydantic can count them for nothing, but builds all or none.
    """
    if error.error_count() > MOST_ERRORS:
        return [{"type": "too_many_errors", "loc": (), "msg": TOO_MANY_ERRORS}]
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def errors_of(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Pydantic's errors as `{"at": "body.email", "message": ...}`, without the input; the first `MOST_ERRORS` of them.

    A name a client made up is shown as `?`: even a key can be somebody's address.
    """
    return [{"at": ".".join(map(_safe, error["loc"])), "message": _message(error)} for error in errors[:MOST_ERRORS]]


def _safe(part: int | str) -> str:
    return str(part) if isinstance(part, int) or _SAFE_KEY.fullmatch(part) else "?"


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return "is not valid JSON"
    if error["type"] in {"enum", "literal_error", "value_error"} or "input" not in error:
        return str(error["msg"]).removeprefix("Value error, ")
    return str(error["msg"])
