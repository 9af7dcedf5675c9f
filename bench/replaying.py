"""Replaying a petition: everybody signs once and is answered, however often it takes."""

import asyncio
import heapq
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.people import Requests, Shares
from bench.source import Timeline
from bench.wire import Answer, Pool

_STEP = 0.01
# Seconds until somebody whose connection was lost tries again.
_LOST_PAUSE = 0.2
_OK, _CREATED, _UNAVAILABLE = 200, 201, 503


@dataclass(slots=True)
class Replay:
    """The people of a petition on their way to the service: `limit` of them, in the source's shares."""

    requests: Requests
    shares: Shares
    limit: int
    allowed: int = 0
    asked: int = 0
    acknowledged: int = 0
    busy: int = 0
    lost: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    by_country: Counter[bytes] = field(default_factory=Counter)
    again: list[tuple[float, int]] = field(default_factory=list)

    def take(self) -> tuple[int, bytes] | None:
        """The next person who may sign now."""
        if self.again and self.again[0][0] <= time.monotonic():
            _, number = heapq.heappop(self.again)
        elif self.asked < self.allowed:
            number = self.asked
            self.asked += 1
        else:
            return None
        return number, self.requests.of(number, self.shares.country(number))

    def settle(self, number: int, answer: Answer | None) -> None:
        """Whoever was told to come back, or was told nothing, comes back."""
        if answer is None:
            self.lost += 1
            heapq.heappush(self.again, (time.monotonic() + _LOST_PAUSE, number))
        elif answer.status == _CREATED:
            self.acknowledged += 1
            self.by_country[self.shares.country(number)] += 1
        elif answer.status == _UNAVAILABLE:
            self.busy += 1
            heapq.heappush(self.again, (time.monotonic() + answer.retry_after(), number))
        else:
            self.refused[f"{answer.status} {answer.body[:200].decode(errors='replace')}"] += 1

    @property
    def finished(self) -> bool:
        return self.acknowledged + self.refused.total() >= self.limit


class Watch:
    """Looks at the count once a second, as anybody could."""

    def __init__(self, petition: str) -> None:
        self._request = f"GET /v1/petitions/{petition}/count HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        self._began = self._next = time.monotonic()
        self.seen: list[tuple[float, int]] = []

    def take(self) -> tuple[int, bytes] | None:
        if time.monotonic() < self._next:
            return None
        self._next += 1
        return 0, self._request

    def settle(self, _: int, answer: Answer | None) -> None:
        if answer is not None and answer.status == _OK:
            self.seen.append((time.monotonic() - self._began, json.loads(answer.body)["signature_count"]))


async def run(
    replay: Replay,
    watch: Watch,
    url: str,
    connections: int,
    pace: tuple[Timeline, float] | None,
    tell: Callable[[Replay], None],
) -> float:
    """Replay at `pace` (a timeline, and how many times faster than it was) or flat out; the seconds it took."""
    began = time.monotonic()
    signers = Pool(url, connections, replay.take, replay.settle)
    async with signers as pool, Pool(url, 1, watch.take, watch.settle) as looking:
        while not replay.finished:
            due = pace[0].count_at((time.monotonic() - began) * pace[1]) if pace else replay.limit
            replay.allowed = min(due, replay.limit)
            pool.wake()
            looking.wake()
            tell(replay)
            await asyncio.sleep(_STEP)
        return time.monotonic() - began
