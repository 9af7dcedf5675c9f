"""Group commit: many callers, one transaction at a time, nobody answered before it has committed.

A batch closes as soon as the one before it has committed. It is 1 when idle and grows with load, so the cost of a
commit is shared by as many callers as wait for it, and no timer has to be tuned.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Generic, TypeVar

from app.kit import metrics
from app.kit.database.session import is_refusal
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

# Seconds between two tries of a failing commit: quick at first, since most outages are a reconnect.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class QueueFull(Unavailable):
    """More requests are waiting than the service takes; try again in a moment."""

    slug = "queue-full"


class GroupCommit(Generic[Item, Result]):
    """Collects items and commits them in batches through `commit`, which returns one result per item, in order.

    `commit` must be harmless to repeat: when its outcome is unknown, it is called again with the same items.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        queue_limit: int,
        batch_limit: int,
        patience: float,
        watched: bool = True,
    ) -> None:
        """`watched`: whether what the metrics tell of batches is about this queue. Of its failures they always do."""
        self._commit = commit
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._patience = patience
        self._watched = watched
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._some = asyncio.Event()
        self._ending = False
        self._settling = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="batches")

    async def add(self, item: Item) -> Result:
        """Wait until the item's batch has committed; QueueFull or Unavailable when it was not taken."""
        if len(self._waiting) >= self._queue_limit:
            metrics.queue_refusals.inc()
            raise QueueFull
        if self._ending or self._task is None or self._task.done():
            raise Unavailable("The service is shutting down.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._tell_depth()
        self._some.set()
        return await future

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits, or is being committed at this moment."""
        return bool(self._waiting) or self._settling

    async def drain(self) -> None:
        """Take no more; return when everything that was taken has been settled."""
        self._ending = True
        self._some.set()
        if self._task is not None:
            await self._task

    def _tell_depth(self) -> None:
        if self._watched:
            metrics.queue_depth.set(len(self._waiting))

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._waiting:
                if self._ending:
                    return
                self._some.clear()
                continue
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
            self._tell_depth()
            if self._watched:
                metrics.batch_size.observe(len(batch))
            self._settling = True
            await self._settle(batch)
            self._settling = False

    async def _settle(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        """Commit the batch, or tell each of its callers why not. Never raises."""
        try:
            results = await self._commit_patiently([item for item, _ in batch])
            answers = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - every caller is told, the queue goes on
            if is_refusal(error) and len(batch) > 1:
                # One item the database will not take must not cost its neighbours.
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in answers:
            if not future.done():
                future.set_result(result)

    async def _commit_patiently(self, items: Sequence[Item]) -> Sequence[Result]:
        began, pause = time.monotonic(), _FIRST_PAUSE
        for tries in count(1):
            try:
                tried = time.perf_counter()
                results = await self._commit(items)
                if self._watched:
                    metrics.commit_seconds.observe(time.perf_counter() - tried)
            except Exception as error:
                metrics.commit_failures.inc()
                log.warning("commit failed", size=len(items), **failure_of(error))
                if is_refusal(error):
                    raise
                # A try that ended by a timeout may have used up the patience: there is always a second one.
                if tries > 1 and time.monotonic() - began + pause > self._patience:
                    raise Unavailable("The database cannot be reached.", retry_after=5) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return results
        raise AssertionError("counting has no end")
