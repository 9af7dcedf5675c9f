"""One connection to an HTTP/1.1 server, for one request at a time, that reads no more of an answer than is wanted."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Bytes of an answer's body that are read, and then no more: what was said by then is what was said.
MOST_BODY = 4096
# Bytes of an answer that are looked at, with all that frames it: trailers and chunk extensions have no other end.
MOST_ANSWER = 32 * 1024
_FIRST_FINAL = 200
# RFC 9112, section 6.3: without these an answer ends with its connection, but for those that have no body.
_FRAMING = {b"content-length", b"transfer-encoding"}
_BODILESS = {204, 304}


class ProtocolError(Exception):
    """What came back is no HTTP."""


class TooLargeError(ProtocolError):
    """Head and framing of the answer are longer than anybody's need to be."""


class StaleConnection(ConnectionError):  # noqa: N818 - as above
    """A connection that had been kept was closed, or came to nothing, before an answer began."""


@dataclass(slots=True)
class RawResponse:
    """What has come back so far."""

    status_code: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    byte_count: int = 0
    is_final: bool = False
    # Whether nothing but the end of the connection ends it.
    is_unframed: bool = False
    is_over: bool = False


class Connection(asyncio.Protocol):
    """Given to `create_connection`. `key`: whose it is; `closed`: whether it can be used no more."""

    def __init__(self, on_closed: Callable[["Connection"], None], key: tuple[str, str, int]) -> None:
        self.key = key
        self.closed = False
        self.reusable = False
        self._on_closed = on_closed
        self._began = time.monotonic()
        self._asked_count = 0
        self._transport: asyncio.Transport | None = None
        # One an answer, for what it has read of another must not be taken for this one's; and it refers to us.
        self._parser: HttpResponseParser | None = None
        self._heard = RawResponse()
        self._answer: asyncio.Future[RawResponse] | None = None

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self._began

    async def ask(self, message: Sequence[bytes]) -> RawResponse:
        """Send head and body, and give what came back; Lost, Protocol, OSError."""
        if self._transport is None or self.closed:
            raise StaleConnection
        self.reusable, self._heard = False, RawResponse()
        self._parser = HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._asked_count += 1
        self._transport.writelines(message)
        try:
            return await self._answer
        finally:
            self._answer = self._parser = None

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.closed, self.reusable = True, False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._heard.is_over:
            # Nothing was asked, or more comes than was.
            self.abort()
            return
        room = MOST_ANSWER - self._heard.byte_count
        self._heard.byte_count += len(data)
        self._read(self._parser, data[:room])
        if len(data) > room:
            self.reusable = False
            self._fail(TooLargeError())

    def _read(self, parser: HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.reusable = False
            # What begins like this on a connection that was kept may be left over from the answer before.
            is_left_over = self._asked_count > 1 and not self._heard.status_code
            self._fail(StaleConnection() if is_left_over else ProtocolError())

    def on_message_begin(self) -> None:
        if self._heard.is_over:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._heard.is_over:
            self._heard.headers.append((name, value))

    def on_headers_complete(self) -> None:
        heard = self._heard
        if heard.is_over or self._parser is None:
            return
        heard.status_code = self._parser.get_status_code()
        heard.is_final = heard.status_code >= _FIRST_FINAL
        heard.is_unframed = not any(name.lower() in _FRAMING for name, _ in heard.headers)

    def on_body(self, body: bytes) -> None:
        if self._heard.is_over:
            return
        self._heard.body += body[: MOST_BODY - len(self._heard.body)]
        if len(self._heard.body) >= MOST_BODY:
            self._finish()

    def on_message_complete(self) -> None:
        heard = self._heard
        if heard.is_over or self._parser is None:
            return
        if not heard.is_final:
            # 100 Continue, 103 Early Hints: the answer is still to come.
            heard.headers.clear()
            return
        # Who announces a body where there is none may send it all the same.
        is_whole = heard.is_unframed or heard.status_code not in _BODILESS
        self.reusable = is_whole and self._parser.should_keep_alive() and not self.closed
        self._finish()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed, self.reusable = True, False
        if self._answer is not None and not self._answer.done():
            if exc is None and self._heard.is_final and self._heard.is_unframed:
                self._finish()
            elif self._asked_count > 1 and not self._heard.byte_count:
                self._fail(StaleConnection())
            else:
                self._fail(exc if isinstance(exc, OSError) else ConnectionResetError())
        self._on_closed(self)
        self._transport = None

    def _finish(self) -> None:
        self._heard.is_over = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._heard)

    def _fail(self, error: BaseException) -> None:
        self._heard.is_over = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
