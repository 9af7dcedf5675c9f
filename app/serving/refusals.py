"""Refusals: the answers that a connection is given past the application, and the log of them."""

import random
from dataclasses import dataclass
from http import HTTPStatus

from app.kit.logs import ThrottledWarning
from app.kit.problems import MEDIA_TYPE, render
from app.kit.web.middleware import HEADERS_OF_DATA

_log = ThrottledWarning("connection refused")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is refused and closed: a problem, and what is added to its headers."""

    status: int
    slug: str
    title: str
    retry_after: int = 0

    def record(self) -> None:
        """Log it, at most once a minute, with how many there were."""
        _log.add(self.slug)

    def message(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The headers and the body of the answer."""
        request_id = f"{random.getrandbits(64):016x}"
        body = render(self.status, self.slug, self.title, request_id)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
            *HEADERS_OF_DATA,
        ]
        if self.retry_after:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        return headers, body

    def answer(self) -> bytes:
        """The whole answer, as it is written to the connection."""
        headers, body = self.message()
        first = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n".encode()
        return b"".join([first, *(b"%s: %s\r\n" % header for header in headers), b"\r\n", body])


UNREADABLE = Refusal(400, "bad-request", "The request could not be read")
TOO_SLOW = Refusal(408, "too-slow", "The request did not arrive in time")
TOO_MANY_CONNECTIONS = Refusal(429, "too-many-connections", "Too many connections are open from this address", 5)
HEAD_TOO_LARGE = Refusal(431, "headers-too-large", "The request's headers are larger than the service accepts")
BUSY = Refusal(503, "busy", "The service has no connection left for this", 1)
FLOOD = Refusal(400, "flood", "More was sent ahead, or around the body, than the service takes")
# Of these nobody is told.
EVICTED = Refusal(503, "evicted", "The place of this connection was needed for another")
UNREAD = Refusal(408, "unread", "The answer was not read")
