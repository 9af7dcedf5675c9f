"""HTTP caching: a strong `ETag` of the bytes, `Cache-Control`, and 304 for a client that has them."""

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType

from fastapi import Request, Response

_TAG = re.compile(r'"[^"]*"')
_NONE: Mapping[str, str] = MappingProxyType({})


def cached(
    request: Request,
    body: bytes,
    *,
    max_age: int,
    shared_max_age: int | None = None,
    private: bool = False,
    headers: Mapping[str, str] = _NONE,
) -> Response:
    """A JSON answer with its validators, or 304 without a body. Ages are in seconds.

    An answer to the holder of a key is `private`, and no cache keeps it. Public answers have `Vary: Authorization` too:
    otherwise a cache may give a stored public answer to somebody who sends a key (RFC 9111, section 3.5).
    """
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    sent = {name.lower(): value for name, value in headers.items()}
    sent["etag"] = etag
    sent["cache-control"] = "private, no-store" if private else _public(max_age, shared_max_age)
    sent["vary"] = _vary(sent.get("vary", ""))
    if _has(request, etag):
        return Response(status_code=304, headers=sent)
    return Response(body, headers=sent, media_type="application/json")


def _public(max_age: int, shared_max_age: int | None) -> str:
    shared = "" if shared_max_age is None else f", s-maxage={shared_max_age}"
    return f"public, max-age={max_age}{shared}"


def _vary(given: str) -> str:
    names = ["Authorization", *(name.strip() for name in given.split(","))]
    return ", ".join(dict.fromkeys(filter(None, names)))


def _has(request: Request, etag: str) -> bool:
    """Whether If-None-Match names this tag: weak comparison, as RFC 9110 (section 13.1.2) asks for."""
    asked = ",".join(request.headers.getlist("If-None-Match"))
    return asked.strip() == "*" or etag in _TAG.findall(asked)
