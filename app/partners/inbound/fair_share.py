"""Courtesy: how what partners bring stays out of the way of those who sign one by one, in the same process.

The numbers here are what is there to be tuned.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.kit import metrics
from app.kit.database import group_commit
from app.kit.web.large_bodies import SMALL

# Seconds of Python work after which the loop is given back: a signer waits no longer than this for their turn.
SLICE = 0.002
# While people sign one by one: how many times as long as it has worked it then leaves the loop to them.
THEIRS = 4
# Large webhooks worked on at the same time in one process, and how many more may wait.
AT_ONCE, WAITING = 4, 64
# The same of small ones: they do not stand behind the large ones, and are bounded by what joins the intake at once.
FEW_AT_ONCE, FEW_WAITING = 16, 496
# Signatures that join whatever is being prepared: a single one does not wait behind ten thousand.
FEW = 100


class Places:
    """Those of one size of webhooks: some are worked on, some wait, more are asked to come again."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.working = asyncio.Semaphore(at_once)
        self._free = at_once + waiting

    def take(self) -> None:
        """One of all places, to be left; QueueFull when there is none."""
        if not self._free:
            metrics.queue_refusals.inc()
            raise group_commit.QueueFull
        self._free -= 1

    def leave(self) -> None:
        """It is free again."""
        self._free += 1


class Courtesy:
    """One per process. Of large webhooks one is prepared at a time, while those before it are being committed."""

    def __init__(self, people_sign: Callable[[], bool]) -> None:
        """`people_sign`: whether anybody who signs one by one is being served at this moment."""
        self._people_sign = people_sign
        self._since = time.perf_counter()
        self._large = Places(AT_ONCE, WAITING)
        self._small = Places(FEW_AT_ONCE, FEW_WAITING)
        self._preparing = asyncio.Lock()

    def places(self, size: int) -> Places:
        """Those of webhooks with so many bytes."""
        return self._small if size <= SMALL else self._large

    def is_due(self) -> bool:
        """Whether the slice is used up; cheap enough to be asked for every signature."""
        return time.perf_counter() - self._since > SLICE

    async def rest(self) -> None:
        """Give the loop back until everybody else has had their turn; for longer while people sign."""
        worked = time.perf_counter() - self._since
        await asyncio.sleep(worked * THEIRS if self._people_sign() else 0)
        self._since = time.perf_counter()

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[None]:
        """The one turn at preparing, begun with a fresh slice."""
        async with self._preparing:
            self._since = time.perf_counter()
            yield
