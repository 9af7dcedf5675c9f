"""What one API process holds when its queue is full, and that nothing it took is lost."""

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import asyncpg
import uvloop

from bench.people import Requests
from bench.rows import Row, at_most
from bench.scenarios import Bench
from bench.servers import largest_rss
from bench.service import Service
from bench.wire import Answer, Pool

_CONNECTIONS = 4096
# Seconds. Shorter than the service's own lock timeout (10 s): nothing has failed yet, everything waits.
_BLOCKED = 6.0


@dataclass(slots=True)
class _Crowd:
    """Everybody signs, at once and again and again, until `ended`; every answer is waited for."""

    requests: Requests
    ended: bool = False
    asked: int = 0
    settled: int = 0
    lost: int = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def take(self) -> tuple[int, bytes] | None:
        if self.ended:
            return None
        self.asked += 1
        return self.asked, self.requests.of(self.asked, b"UG")

    def settle(self, _: int, answer: Answer | None) -> None:
        self.settled += 1
        if answer is None:
            self.lost += 1
        else:
            self.statuses[answer.status] += 1


async def _crowd_while_blocked(service: Service) -> _Crowd:
    crowd = _Crowd(Requests("p0", secrets.token_hex(5)))
    connection = await asyncpg.connect(service.database.url)
    async with Pool(service.url, _CONNECTIONS, crowd.take, crowd.settle):
        async with connection.transaction():
            await connection.execute("LOCK TABLE signatures IN EXCLUSIVE MODE")
            await asyncio.sleep(_BLOCKED)
        crowd.ended = True
        async with asyncio.timeout(60):
            while crowd.settled < crowd.asked:
                await asyncio.sleep(0.05)
    await connection.close()
    return crowd


class _Highest:
    """The largest of a server's processes, looked at twenty times a second."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mebibytes = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.mebibytes = max(self.mebibytes, largest_rss(self._service.server))


def memory(bench: Bench) -> Iterator[Row]:
    """Commits are blocked by a lock on the table while 4,096 connections fill the queue; then let go."""
    with bench.services.running("memory") as service:
        idle = largest_rss(service.server)
        bench.say(f"{_CONNECTIONS:,} connections sign while commits are blocked for {_BLOCKED:g} s")
        with _Highest(service) as highest:
            crowd = uvloop.run(_crowd_while_blocked(service))
        counted = service.database.value("SELECT count(*) FROM signatures WHERE state = 'confirmed'")
        tallied = service.database.value(
            "SELECT sum(signature_count)::bigint FROM signature_tallies WHERE dimension = 'total'"
        )
    accepted, busy = crowd.statuses[201], crowd.statuses[503]
    yield Row(
        "memory of an API process with a full queue",
        highest.mebibytes,
        "MiB",
        at_most(150),
        f"idle {idle:.0f} MiB",
    )
    yield Row(
        "acknowledged but not counted, or counted but not acknowledged, after that",
        abs(counted - accepted) + abs(tallied - accepted),
        "",
        at_most(0),
        f"{accepted:,} acknowledged, {counted:,} rows, {tallied:,} tallied",
    )
    other = crowd.asked - accepted - busy
    yield Row("answers other than 201 and 503", other, "", at_most(0), f"{busy:,} were told to come back (503)")
