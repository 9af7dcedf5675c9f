"""Request middleware, around the whole application: request id, security headers, metrics, and the last resort for
errors.

Pure ASGI: it costs a few microseconds a request.
"""

import random
import time
from typing import Any

from app.kit import metrics
from app.kit.logs import failure_of, log
from app.kit.web.asgi import Asgi, Message, Receive, Scope, Send
from app.kit.web.errors import internal_error, not_found

# Few, because every answer carries them and the server checks each one. The policy forbids framing as well.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
]
HEADERS_OF_DATA = [*_HEADERS, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
# A page of ours brings a policy of its own.
HEADERS_OF_PAGES = [*_HEADERS, (b"referrer-policy", b"no-referrer")]
_REFUSED = 400
# Refusals that are mostly told without looking at the body.
_UNREAD = {401, 403, 404, 405}
# Bytes of a body that may be refused on a connection that stays open: whoever mistypes is not sent away.
_SMALL_REFUSED = 4096
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}


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
                if status >= _REFUSED and _had_body(scope, status):
                    headers.append((b"connection", b"close"))
            await send(message)

        # PostgreSQL refuses a NUL in a parameter, and one such path must not fail a read that many callers share.
        inner = not_found(request_id) if "\x00" in scope["path"] else self._app
        try:
            await inner(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it was, it is logged and answered
            log.error("request failed", request_id=request_id, route=route_of(scope), **failure_of(error))
            if not status:
                await internal_error(request_id)(scope, receive, answer)
        finally:
            _observe(scope, status or 500, time.perf_counter() - began)


def _had_body(scope: Scope, status: int) -> bool:
    """Whether what was refused had a body that was large, or that nobody asked for: its client has to come anew."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20]) > (0 if status in _UNREAD else _SMALL_REFUSED)
        if name == b"transfer-encoding":
            return True
    return False


def route_of(scope: Scope) -> str:
    """The route's template, never the path itself: a path may hold a token."""
    return getattr(scope.get("route"), "path", "unmatched")


# Looking a metric's labels up is slow: what was looked up is kept, by method, route and status.
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
