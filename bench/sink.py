"""`python -m bench.sink FILE`: a mail server that takes everything, and writes down what it has taken and when.

A process of its own, so that what is measured shares no loop with it. It prints its port when it listens, and serves
until SIGTERM. Of each mail a line goes to the file: seconds by the monotonic clock, and the recipient.

The same bare client gave aiosmtpd, made for tests, 700 to 1,000 mails a second where this one took 9,000: it would have
been measured instead of the worker, and have taken a processor from it.
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

_RECIPIENT = re.compile(rb"RCPT TO: ?<([^<>]+)>", re.IGNORECASE)
_END_OF_MAIL = b"\r\n.\r\n"
_BYE = b"221 bye\r\n"
_OTHERS = {
    b"HELO": b"250 sink.test\r\n",
    b"MAIL": b"250 ok\r\n",
    b"RSET": b"250 ok\r\n",
    b"NOOP": b"250 ok\r\n",
    b"QUIT": _BYE,
}


class _Talk(asyncio.Protocol):
    """One connection: as much of RFC 5321 as a client needs that sends mails, commands one by one or pipelined.

    A line is in the file before its mail is said to be taken, so no answer is sooner than what it speaks of.
    """

    __slots__ = ("_file", "_in_data", "_received", "_recipients", "_transport")

    def __init__(self, file: int) -> None:
        self._file = file
        self._received = b""
        self._recipients: list[bytes] = []
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 sink.test\r\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            whole, end, rest = self._received.partition(_END_OF_MAIL if self._in_data else b"\r\n")
            if not end:
                return
            self._received = rest
            said = self._take() if self._in_data else self._answer(whole)
            self._transport.write(said)
            if said is _BYE:
                self._transport.close()
                return

    def _take(self) -> bytes:
        now = b"%.6f" % time.monotonic()
        os.write(self._file, b"".join(b"%b %b\n" % (now, name) for name in self._recipients))
        self._recipients, self._in_data = [], False
        return b"250 taken\r\n"

    def _answer(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
        if verb == b"RCPT" and (found := _RECIPIENT.match(line)):
            self._recipients.append(found[1])
            return b"250 ok\r\n"
        if verb == b"DATA" and self._recipients:
            self._in_data = True
            return b"354 go on\r\n"
        if verb in {b"MAIL", b"RSET"}:
            self._recipients = []
        return _OTHERS.get(verb, b"503 not now\r\n")


async def _serve(path: Path) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = await loop.create_server(lambda: _Talk(file), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink."""

    port: int
    path: Path

    @property
    def url(self) -> str:
        """For `SMTP_URL`."""
        return f"smtp://127.0.0.1:{self.port}"

    def count(self) -> int:
        """How many mails it has by now."""
        return self.path.read_bytes().count(b"\n")

    def mails(self) -> Counter[str]:
        """How many mails each recipient has got."""
        return Counter(line.split(" ", 1)[1] for line in self._lines())

    def per_second(self) -> float:
        """Mails a second, from the first to the last."""
        moments = [float(line.split(" ", 1)[0]) for line in self._lines()]
        return (len(moments) - 1) / (max(moments) - min(moments))

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()


@contextlib.contextmanager
def sinking(path: Path) -> Iterator[Sink]:
    """A sink for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.sink", str(path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the mail server of the bench could not begin")
        yield Sink(int(port), path)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
