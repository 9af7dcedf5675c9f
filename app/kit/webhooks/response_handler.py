"""aiohttp's response handler, one per connection, with bounds on the size of a response and the age of a connection.

aiohttp bounds each header, but not what frames a response: interim responses, chunk extensions and empty lines before
it may come without end. It takes what a server sends unasked on a kept connection for the next response. It gives up a
response as broken when bytes follow it, but many servers send a body after a 204.

aiohttp does not document `ResponseHandler`. So its minor version is pinned, and a test stands for each bound.
"""

import asyncio
import re
import time
from typing import Any

from aiohttp import ClientConnectionError, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage

# Bytes of a response's body that are read, and then no more: what was said by then is what was said.
MOST_BODY = 4096
# Bytes of a response that are looked at, with all that frames it: trailers and chunk extensions have no other end.
MOST_RESPONSE = 32 * 1024
# Seconds a connection may stay with the address that was checked when it was opened.
LIFETIME = 60.0
FIRST_FINAL = 200
# Where a head ends; also when its last line began in the bytes before.
_HEAD_END = re.compile(rb"\A\r?\n|\n\r?\n")
# They have no body, whatever is announced; who announces one may send it all the same.
_BODILESS = {204, 304}
_FRAMING = ("Content-Length", "Transfer-Encoding")


class ProtocolError(Exception):
    """What came back is no HTTP."""


class TooLargeError(ProtocolError):
    """Head and framing of the response are longer than anybody's need to be."""


class StaleConnection(ClientConnectionError):  # noqa: N818 - the field's word
    """A connection that had been kept was closed, or came to nothing, before a response began."""


class BoundedHandler(ResponseHandler):
    """A connection that reads no more of a response than is wanted, and is not used again when anything else comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._opened_at = time.monotonic()
        self._end: asyncio.TimerHandle | None = None
        self._request_count = 0
        self._byte_count = 0
        # The latest head of the response that is awaited, and the body once the final one is there.
        self._head: RawResponseMessage | None = None
        self._body: StreamReader | None = None

    @property
    def _is_over(self) -> bool:
        """Whether no response is awaited: none was asked for, or all of it is there."""
        return not self._request_count or (self._body is not None and self._body.is_eof())

    @property
    def _is_old(self) -> bool:
        return time.monotonic() - self._opened_at >= LIFETIME

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the life of an open connection; one whose TLS failed has no end that would be told."""
        super().connection_made(transport)
        self._opened_at = time.monotonic()
        self._end = asyncio.get_running_loop().call_later(LIFETIME, self._expire)

    def set_response_params(self, **params: Any) -> None:
        """Begin to await a response."""
        self._request_count += 1
        self._byte_count, self._head, self._body = 0, None, None
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            # aiohttp gives no bytes when it merely resumes.
            if data:
                self._abort()
            return
        room = MOST_RESPONSE - self._byte_count
        self._byte_count += len(data)
        if room > 0:
            self._read(data[:room])
        if len(data) > room:
            self._give_up()

    def _read(self, data: bytes) -> None:
        """Give it to the parser, each head alone: on an error the parser drops the heads of the same call."""
        while data and self._body is None and not self.is_eof():
            found = _HEAD_END.search(data)
            end = found.end() if found else len(data)
            super().data_received(data[:end])
            data = data[end:]
        if data and not self._is_over:
            super().data_received(data)
            data = b""
        if self._is_over and (data or self._has_begun_another()):
            self.force_close()

    def _has_begun_another(self) -> bool:
        """Whether the parser has begun another response behind this one: at the end of input it would name it."""
        try:
            return self._parser is not None and self._parser.feed_eof() is not None
        except HttpProcessingError:
            return True

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a head with its body from the parser."""
        if self._body is None:
            self._head, body = data
            if self._head.code >= FIRST_FINAL:
                self._body = body
                if self._head.code in _BODILESS and any(name in self._head.headers for name in _FRAMING):
                    self.force_close()
        else:
            # A response behind the one that was asked for. The pool may have this connection already.
            self.force_close()
        super().feed_data(data, size)

    def _give_up(self) -> None:
        """More has come than is looked at: that is an error, unless there was enough of the body among it."""
        self.force_close()
        is_enough = self._body is not None and (self._body.is_eof() or self._body.total_bytes >= MOST_BODY)
        if not is_enough:
            self.set_exception(TooLargeError())
            self._abort()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail whoever waits for the head or the body."""
        named = self._named(exc)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(named, exc_cause or exc)
        super().set_exception(named, exc_cause or exc)

    def _named(self, error: BaseException) -> BaseException:
        is_garbage = isinstance(error, HttpProcessingError)
        # On a kept connection, garbage before a head may be left over from the response before.
        if self._request_count > 1 and self._head is None and (is_garbage or not self._byte_count):
            return StaleConnection()
        return ProtocolError() if is_garbage else error

    def is_connected(self) -> bool:
        """Whether it may be used again."""
        # aiohttp gives a connection back as soon as the body is there, before what follows it was looked at.
        return super().is_connected() and not self._is_old and not self._should_close

    @property
    def should_close(self) -> bool:
        """Whether it must not be kept."""
        return super().should_close or self._is_old

    def close(self) -> None:
        """Close at once: a graceful close would wait for the other side."""
        self.abort()

    def _abort(self) -> None:
        """Close at once, but keep the exception for whoever waits: `abort()` drops it."""
        self.force_close()
        self._payload = None
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        # The timer would keep the connection, and what that has read, in memory until then.
        if self._end is not None:
            self._end.cancel()
        # A body that has no other end than that of the connection is whole only if that was an orderly one.
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientConnectionError())
        super().connection_lost(exc)

    def _expire(self) -> None:
        if self._is_over:
            self._abort()
