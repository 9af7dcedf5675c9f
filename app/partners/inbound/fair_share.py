"""Fair share: admission control and scheduling of what partners bring, in the process where people sign one by one.

The numbers here are what is there to be tuned.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.kit import metrics
from app.kit.database import group_commit
from app.kit.web.large_bodies import SMALL

# Seconds of Python work after which the event loop is given back: a signer waits no longer than this for their turn.
SLICE = 0.002
# While people sign one by one: how many times as long as it has worked it then leaves the loop to them.
THEIRS = 4
# Seconds: a pause lasts no longer, whatever has passed. Time in which nobody worked is no work.
LONGEST_PAUSE = 0.05
# Large webhooks worked on at the same time in one process, and how many more may wait.
LARGE_AT_ONCE, LARGE_WAITING = 4, 64
# The same of small ones: they do not wait behind large ones, and all of them fit the small queue of `engine/bulk.py`.
SMALL_AT_ONCE, SMALL_WAITING = 16, 496
# A webhook of fewer signatures is prepared beside a large one: a single signature does not wait behind ten thousand.
FEW = 100


class Admission:
    """Admission control for webhooks of one size: some are worked on, some wait, more are asked to come again."""

    def __init__(self, at_once: int, waiting: int) -> None:
        """`slots`: hold one to work."""
        self.slots = asyncio.Semaphore(at_once)
        self._free = at_once + waiting

    def enter(self) -> None:
        """Work or wait from now on, until `leave`; QueueFull."""
        if not self._free:
            metrics.queue_refusals.inc()
            raise group_commit.QueueFull
        self._free -= 1

    def leave(self) -> None:
        """Make room for another."""
        self._free += 1


class FairShare:
    """The scheduler, one per process. Of large webhooks one is prepared at a time, while others are committed."""

    def __init__(self, people_sign: Callable[[], bool]) -> None:
        """`people_sign`: whether anybody who signs one by one is being served at this moment."""
        self._people_sign = people_sign
        self._since = time.perf_counter()
        self._large = Admission(LARGE_AT_ONCE, LARGE_WAITING)
        self._small = Admission(SMALL_AT_ONCE, SMALL_WAITING)
        self._preparing = asyncio.Lock()

    def admission(self, size: int) -> Admission:
        """The one for webhooks of so many bytes."""
        return self._small if size <= SMALL else self._large

    def start_slice(self) -> None:
        """A fresh time slice, for a webhook that begins now."""
        self._since = time.perf_counter()

    def is_used_up(self) -> bool:
        """Whether the time slice is over; cheap enough to be asked for every signature."""
        return time.perf_counter() - self._since > SLICE

    async def give_way(self) -> None:
        """Give the event loop back until everybody else has had their turn; for longer while people sign."""
        worked = time.perf_counter() - self._since
        await asyncio.sleep(min(worked * THEIRS, LONGEST_PAUSE) if self._people_sign() else 0)
        self._since = time.perf_counter()

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[None]:
        """The one turn at preparing, begun with a fresh time slice."""
        async with self._preparing:
            self._since = time.perf_counter()
            yield
