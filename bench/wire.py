"""A bare HTTP/1.1 client for a multitude: prepared bytes out, a status in, one request at a time on each.

An HTTP client library spends more time on a request than the service does, so it would measure itself. Here a
connection is an asyncio protocol that looks for the status and the length of an answer, and for nothing else.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
# Connections opened at once: fewer than any server's backlog.
_OPENED_AT_ONCE = 256
_PAUSE = 0.1


class Answer(NamedTuple):
    """One answer, as it came."""

    status: int
    head: bytes
    body: bytes

    def retry_after(self) -> int:
        """Seconds the server asks to wait; 1 when it does not say."""
        found = _RETRY_AFTER.search(self.head)
        return int(found[1]) if found else 1


# Gives a number and the bytes of the next request, or None when there is none at this moment.
Take = Callable[[], tuple[int, bytes] | None]
# Is told what came back for a number: an answer, or None when the connection was lost before there was one.
Settle = Callable[[int, Answer | None], None]


class _Connection(asyncio.Protocol):
    __slots__ = ("_number", "_pool", "_received", "_transport")

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._number = -1
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast("asyncio.Transport", transport)
        self._pool.opened.add(self)
        self.ask()

    def ask(self) -> bool:
        """Send the next request; False when there is none."""
        taken = self._pool.take()
        if taken is None:
            self._pool.idle.add(self)
            return False
        self._number, request = taken
        self._transport.write(request)
        return True

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(received, 0, end) if end >= 4 else None
        if length is None or len(received) < end + int(length[1]):
            self._received = received
            return
        self._received = b""
        number, self._number = self._number, -1
        self._pool.settle(number, Answer(int(received[9:12]), received[:end], received[end:]))
        self.ask()

    def connection_lost(self, _: Exception | None) -> None:
        self._pool.opened.discard(self)
        self._pool.idle.discard(self)
        number, self._number = self._number, -1
        if self._pool.ended:
            return
        if number >= 0:
            self._pool.settle(number, None)
        self._pool.reopen()

    def close(self) -> None:
        self._transport.close()


class Pool:
    """A constant number of connections to one server; a lost one is opened again.

    Requests that are under way when the block ends are given up, and not settled.
    """

    def __init__(self, url: str, connections: int, take: Take, settle: Settle) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._connections = connections
        self.take = take
        self.settle = settle
        self.opened: set[_Connection] = set()
        self.idle: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_OPENED_AT_ONCE)
        self.ended = False

    async def __aenter__(self) -> Self:
        for _ in range(self._connections):
            self.reopen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = True
        for task in self._opening:
            task.cancel()
        for connection in list(self.opened):
            connection.close()
        await asyncio.sleep(0)

    def reopen(self) -> None:
        """Open one connection, trying until it succeeds."""
        if not self.ended:
            task = asyncio.ensure_future(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.ended:
            with contextlib.suppress(OSError):
                async with self._turn:
                    await loop.create_connection(lambda: _Connection(self), self._host, self._port)
                return
            await asyncio.sleep(_PAUSE)

    def wake(self) -> None:
        """There may be requests again: let idle connections ask for one, until one finds none."""
        while self.idle and self.idle.pop().ask():
            pass
