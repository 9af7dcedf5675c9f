"""uvicorn's HTTP protocol, reading one request of a connection after the other.

uvicorn reads on while a request is being answered, and keeps whatever head it is sent. Here what comes before its turn
stays unparsed, and reading pauses. The parser cannot be stopped within bytes it was given: so they are cut where a
second request could begin. It extends the protocol of one minor version of uvicorn (`pyproject.toml`).
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.serving.connections import Connections
from app.serving.refusals import FLOOD, HEAD_TOO_LARGE, UNREADABLE, Refusal

# What the parser is in.
NOTHING, HEAD, BODY = range(3)
# Every request line ends so; what holds one of them begins one request at the most.
_VERSION = b" HTTP/"
# Requests that may be parsed ahead of an answer: of those that do not look like one (HTTP/0.9).
_MOST_AHEAD = 8
# Bytes of a body that are still read, and dropped, after its request was answered: so the client sees the answer.
_MOST_DROPPED = 32 * 1024 * 1024


# Methods whose bodies no route reads.
_BODYLESS = {"GET", "HEAD", "OPTIONS"}


class _TooMuchError(Exception):
    """Raised in the parser's callbacks, to stop it."""


class Flow(FlowControl):
    """Reading stays paused while something is held, whoever else would have it go on."""

    is_holding = False

    def resume_reading(self) -> None:
        if not self.is_holding:
            super().resume_reading()


class _LingeringTransport:
    """What an answer is written to before all of its request's body came: closing it waits for the rest.

    To close at once would reset the connection, and the client might never see why it was refused.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.close = transport.write, close


class RequestReader(HttpToolsProtocol):
    """One connection, as far as it is read. `since` is the loop's time at which what its client does now began."""

    flow: Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.since = 0.0
        self._connections = connections
        self._limits = connections.limits
        self._is_ended = False
        self._is_idle = True
        # Of what is parsed: where the parser is, how many bytes it may be given that are no body, bytes of the body.
        self._part = NOTHING
        self._room = self._limits.header_bytes
        self._body_size = 0
        self._closes_after_body = False
        # Of what is answered: the request under way, how many were read and not yet answered, what came too early.
        self._answered: RequestResponseCycle | None = None
        self._unanswered = 0
        self._held = b""

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection for this reason."""
        raise NotImplementedError

    def _end(self) -> None:
        """End the connection."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if self._is_ended:
            return
        if self._unanswered:
            self._hold(data)
            return
        if self._is_idle:
            self._begins()
        # Nearly always: one request, whole.
        if self._part == NOTHING and len(data) < self._room and data.count(_VERSION) < 2:  # noqa: PLR2004
            self._parse(data)
        else:
            self._read(data)
        if self._part == BODY and self.cycle.transport is self.transport:
            self.cycle.transport = _LingeringTransport(self.transport, self._close_after_body)  # type: ignore[assignment]

    def _close_after_body(self) -> None:
        if self._part == BODY and (self._body_size or not self.expect_100_continue):
            self._closes_after_body = True
        else:
            self._end()

    def _begins(self) -> None:
        self._is_idle = False
        self.since = self.loop.time()

    def _read(self, data: bytes) -> None:
        """Parse one request after the other, and hold the rest as soon as there is one to answer."""
        begin, end = 0, len(data)
        while begin < end and not self._is_ended:
            if self._unanswered:
                self._hold(data[begin:])
                return
            until = min(end, self._end_of_part(data, begin))
            self._parse(data[begin:until])
            begin = until

    def _end_of_part(self, data: bytes, begin: int) -> int:
        """Up to where it is certain that these bytes hold the end of one request at the most."""
        if self._part == BODY:
            missing = self._length() - self._body_size
            if missing > 0:
                return begin + missing
        first = data.find(_VERSION, begin)
        second = data.find(_VERSION, first + 1) if first >= 0 else -1
        until = second if second >= 0 else len(data)
        if self._part == BODY:
            return until
        # A head that is too large is refused before all of it has been taken.
        return min(until, begin + self._room)

    def _length(self) -> int:
        """The length of the body under way; 0 when it comes in chunks."""
        found = (value for name, value in self.headers if name == b"content-length" and value.isdigit())
        return int(next(found, b"0"))

    def _parse(self, data: bytes) -> None:
        self._room -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if nothing else had been asked for (RFC 9110, section 7.8).
            return
        except httptools.HttpParserError as error:
            self._refuse(FLOOD if isinstance(error.__context__, _TooMuchError) else UNREADABLE)
            return
        if self._room <= 0:
            self._refuse(FLOOD if self._part == BODY else HEAD_TOO_LARGE)

    def _hold(self, data: bytes) -> None:
        """Keep what came before its turn, and read no more until then."""
        if not self._connections.hold(len(data)):
            self._refuse(FLOOD)
            return
        self._held += data
        self.flow.pause_reading()
        self.flow.is_holding = True

    def _release(self) -> None:
        if self._is_ended or self._unanswered:
            return
        data, self._held = self._held, b""
        self._connections.hold(-len(data))
        self.flow.is_holding = False
        self._begins()
        self._read(data)
        if not self._held:
            self.flow.resume_reading()

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows the last chunk (trailers) is no part of the head.
        if self._part == HEAD:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MOST_AHEAD:
            raise _TooMuchError
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle
        self._part = BODY
        self._body_size = 0
        self._room = self._limits.header_bytes

    def on_body(self, body: bytes) -> None:
        # A body may come in chunks, whose sizes are read as well: of them no more than there is of the body itself.
        self._body_size += len(body)
        self._room += 2 * len(body)
        if self.scope["method"] in _BODYLESS:
            # It is read by nobody: the client has to come anew.
            self.cycle.keep_alive = False
        super().on_body(body)
        if self.cycle.response_complete and self._body_size > _MOST_DROPPED:
            raise _TooMuchError

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = NOTHING
        self._room = self._limits.header_bytes
        if self._closes_after_body:
            self._end()
        elif self.cycle.response_complete:
            self._becomes_idle()
        else:
            self._unanswered += 1

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._answered is not None and not self._answered.more_body:
            self._unanswered -= 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._answered, app = self.pipeline.pop()
            self._start_asgi_task(self._answered, app)
        if not self._unanswered:
            self._is_idle = self._part == NOTHING
            self.since = self.loop.time()
            if self._held:
                self.loop.call_soon(self._release)

    def _becomes_idle(self) -> None:
        self._is_idle = True
        self.since = self.loop.time()
