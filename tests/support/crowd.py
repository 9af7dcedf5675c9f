"""A crowd that keeps signing, whatever happens to the service."""

import asyncio
import json
import threading
import time
from collections import Counter
from typing import Self

from tests.support.factories import person
from tests.support.services import PATIENCE


class Crowd:
    """People who sign, each connection one after the other, in a thread of its own; as a context manager."""

    def __init__(self, port: int, slugs: list[str], connections: int = 32) -> None:
        self._port = port
        self._slugs = slugs
        self._connections = connections
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._sign()), name="crowd")
        self._next = 0
        # What was answered 201, by petition: numbers of people.
        self.acknowledged: dict[str, set[int]] = {slug: set() for slug in slugs}
        self.answers: Counter[int] = Counter()
        self.unanswered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait_for(self, more: int) -> None:
        """Wait until so many more people have been told that they have signed."""
        until, wanted = time.monotonic() + PATIENCE, self.answers[201] + more
        while self.answers[201] < wanted:
            assert time.monotonic() < until, self.answers
            time.sleep(0.01)

    async def _sign(self) -> None:
        await asyncio.gather(*(self._keep_signing() for _ in range(self._connections)))

    async def _keep_signing(self) -> None:
        while not self._leaving.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                # Nobody listens: whoever starts just now needs the processor more.
                await asyncio.sleep(0.1)
                continue
            try:
                while not self._leaving.is_set():
                    await self._sign_once(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                self.unanswered += 1
            finally:
                writer.close()

    async def _sign_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._next += 1
        # Every tenth has signed before.
        number = self._next // 2 if self._next % 10 == 0 else self._next
        slug = self._slugs[number % len(self._slugs)]
        writer.write(_request(slug, number))
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        status = int(head[9:12])
        self.answers[status] += 1
        if status == 201:
            self.acknowledged[slug].add(number)
        else:
            await asyncio.sleep(0.02)


def _request(slug: str, number: int) -> bytes:
    body = json.dumps(person(number, ("UG", "FR", "DE")[number % 3], region=f"R{number % 4}")).encode()
    head = (
        f"POST /v1/petitions/{slug}/signatures HTTP/1.1\r\nhost: multitude.test\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
