"""`python -m bench.webhook_sink FILE`: a receiver that takes every webhook, and writes down what it has taken and when.

A process of its own, so that what is measured shares no loop with it. It prints its port when it listens, and serves
until SIGTERM. What comes to `/hang` is read and never answered. Of each webhook that is answered a line goes to the
file: seconds by the monotonic clock, the path, and the `webhook-id`.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from tests.support.services import environment

HANG = "/hang"
_HEAD = re.compile(rb"POST (\S+) HTTP/1.1\r\n", re.ASCII)
_ID = re.compile(rb"\r\nwebhook-id: (\S+)\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


class _Talk(asyncio.Protocol):
    """One connection: requests with a length, one after the other."""

    __slots__ = ("_file", "_received", "_transport")

    def __init__(self, file: int) -> None:
        self._file = file
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            found = _LENGTH.search(head + b"\r\n") if end else None
            if not found or len(rest) < int(found[1]):
                return
            self._received = rest[int(found[1]) :]
            self._take(head + b"\r\n")

    def _take(self, head: bytes) -> None:
        path, id_ = _HEAD.match(head), _ID.search(head)
        assert path is not None
        assert id_ is not None
        if path[1] != HANG.encode():
            os.write(self._file, b"%.6f %b %b\n" % (time.monotonic(), path[1], id_[1]))
            self._transport.write(_TAKEN)


async def _serve(path: Path) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = await loop.create_server(lambda: _Talk(file), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


@dataclass(frozen=True, slots=True)
class WebhookSink:
    """A running sink."""

    port: int
    path: Path

    def url(self, path: str) -> str:
        """An endpoint here."""
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self) -> int:
        """How many webhooks it has by now."""
        return self.path.read_bytes().count(b"\n")

    def ids(self) -> Counter[str]:
        """How often each webhook has come."""
        return Counter(line.split(" ")[2] for line in self._lines())

    def per_second(self) -> float:
        """Webhooks a second, from the first to the last."""
        moments = [float(line.split(" ", 1)[0]) for line in self._lines()]
        return (len(moments) - 1) / (max(moments) - min(moments))

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()


@contextlib.contextmanager
def receiving(path: Path) -> Iterator[WebhookSink]:
    """A sink for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.webhook_sink", str(path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the receiver of the bench could not begin")
        yield WebhookSink(int(port), path)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
