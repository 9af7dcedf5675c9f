"""Courtesy: how what partners bring stays out of the way of those who sign one by one, in the same process.

The numbers here are what is there to be tuned.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.kit import batches, metrics

# Seconds of Python work after which the loop is given back: a signer waits no longer than this for their turn.
SLICE = 0.002
# Webhooks worked on at the same time in one process, and how many more may wait.
AT_ONCE, WAITING = 4, 16
# Signatures that join whatever is being prepared: a single one does not wait behind ten thousand.
FEW = 100


class Courtesy:
    """One per process. Of large webhooks one is prepared at a time, while those before it are being committed."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._preparing = asyncio.Lock()

    def is_due(self) -> bool:
        """Whether the slice is used up; cheap enough to be asked for every signature."""
        return time.perf_counter() - self._since > SLICE

    async def rest(self) -> None:
        """Give the loop back until everybody else has had their turn."""
        await asyncio.sleep(0)
        self._since = time.perf_counter()

    def check_room(self) -> None:
        """QueueFull when too many wait already."""
        if self._waiting >= WAITING:
            metrics.queue_refusals.inc()
            raise batches.QueueFull

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A place among those worked on; QueueFull."""
        self.check_room()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[None]:
        """The one turn at preparing, begun with a fresh slice."""
        async with self._preparing:
            await self.rest()
            yield
