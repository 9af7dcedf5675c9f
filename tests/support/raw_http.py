"""HTTP as bytes on a socket, for what no well-behaved client would send; and what a server has in memory meanwhile."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import psutil

from tests.support.services import PATIENCE, Server

MEBIBYTE = 1024 * 1024
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: multitude.test\r\n\r\n"


class Answer(NamedTuple):
    """The first answer on a connection, as far as it came."""

    status: int
    head: bytes
    body: bytes


def connect(port: int, *, source: str = "127.0.0.1", patience: float = PATIENCE) -> socket.socket:
    """A connection from this loopback address; every one of 127.0.0.0/8 is another client."""
    return socket.create_connection(("127.0.0.1", port), patience, source_address=(source, 0))


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection, however it does that."""
    parts = []
    with suppress(ConnectionError):
        while part := connection.recv(MEBIBYTE):
            parts.append(part)
    return b"".join(parts)


def read_answer(connection: socket.socket) -> Answer:
    """One answer with a `Content-Length`; of status 0 when the server closes instead."""
    got = b""
    with suppress(ConnectionError):
        while b"\r\n\r\n" not in got and (part := connection.recv(65536)):
            got += part
        head, _, body = got.partition(b"\r\n\r\n")
        while len(body) < length_of(head) and (part := connection.recv(65536)):
            body += part
        return Answer(int(head[9:12] or 0), head, body)
    return Answer(0, got, b"")


def length_of(head: bytes) -> int:
    """What an answer's head says of the length of its body."""
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


def asked(port: int, request: bytes = ALIVE, *, source: str = "127.0.0.1") -> Answer:
    """The answer to this request on a connection of its own."""
    with connect(port, source=source) as connection:
        connection.sendall(request)
        return read_answer(connection)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed this connection by now."""
    connection.setblocking(False)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@contextmanager
def opened(port: int, count: int, sent: bytes = b"", *, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """So many connections, each of which has sent this."""
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connections.append(connect(port, source=source))
            with suppress(ConnectionError):
                connections[-1].sendall(sent)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def send_as_far_as_read(connection: socket.socket, part: bytes, most: int) -> int:
    """Send this over and over until the server reads no more for a second, or closes; how many bytes it took."""
    connection.settimeout(1)
    taken = 0
    with suppress(OSError):
        while taken < most:
            taken += connection.send(part)
    return taken


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until this has happened; AssertionError if it never does."""
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def memory(server: Server) -> float:
    """Resident memory of the server's largest process, in MiB."""
    root = psutil.Process(server.pid)
    return max(process.memory_info().rss for process in (root, *root.children(recursive=True))) / MEBIBYTE
