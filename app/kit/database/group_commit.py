"""Group commit: many callers, one transaction at a time, nobody answered before it has committed.

A batch closes as soon as the one before it has committed. It is 1 when idle and grows with load, so the cost of a
commit is shared by as many callers as wait for it, and no timer has to be tuned.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Generic, TypeAlias, TypeVar

from app.kit import metrics
from app.kit.database.session import is_refusal
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
Waiting: TypeAlias = tuple[Item, asyncio.Future[Result]]

# Seconds between two tries of a failing commit: quick at first, since most outages are a reconnect.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class QueueFull(Unavailable):
    """More requests are waiting than the service takes; try again in a moment."""

    slug = "queue-full"


class GroupCommit(Generic[Item, Result]):
    """Collects items and commits them in batches through `commit`, which returns one result per item, in order.

    `commit` must be harmless to repeat: when its outcome is unknown, it is called again with the same items, until
    `retry_timeout` seconds have passed.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        queue_limit: int,
        batch_limit: int,
        retry_timeout: float,
        export_metrics: bool = True,
    ) -> None:
        """`export_metrics`: export batch metrics for this queue; failures are always counted."""
        self._commit = commit
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._retry_timeout = retry_timeout
        self._export_metrics = export_metrics
        self._waiting: deque[Waiting[Item, Result]] = deque()
        # Set while items wait, or the queue is to end.
        self._not_empty = asyncio.Event()
        self._draining = False
        self._committing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to commit what is submitted, in the running event loop."""
        self._task = asyncio.create_task(self._run(), name="group commit")

    async def submit(self, item: Item) -> Result:
        """Wait until the item's batch has committed; QueueFull or Unavailable when it was not taken."""
        if len(self._waiting) >= self._queue_limit:
            metrics.queue_refusals.inc()
            raise QueueFull
        if self._draining or self._task is None or self._task.done():
            raise Unavailable("The service is shutting down.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._export_depth()
        self._not_empty.set()
        return await future

    @property
    def is_busy(self) -> bool:
        """Whether an item waits, or is being committed at this moment."""
        return bool(self._waiting) or self._committing

    async def drain(self) -> None:
        """Take no more items; return when everything that was taken has been answered."""
        self._draining = True
        self._not_empty.set()
        if self._task is not None:
            await self._task

    def _export_depth(self) -> None:
        if self._export_metrics:
            metrics.queue_depth.set(len(self._waiting))

    async def _run(self) -> None:
        while True:
            await self._not_empty.wait()
            if not self._waiting:
                if self._draining:
                    return
                self._not_empty.clear()
                continue
            batch = self._next_batch()
            self._committing = True
            await self._commit_batch(batch)
            self._committing = False

    def _next_batch(self) -> list[Waiting[Item, Result]]:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
        self._export_depth()
        if self._export_metrics:
            metrics.batch_size.observe(len(batch))
        return batch

    async def _commit_batch(self, batch: Sequence[Waiting[Item, Result]]) -> None:
        """Commit the batch, or tell each of its callers why not. Never raises."""
        try:
            results = await self._commit_with_retries([item for item, _ in batch])
            answers = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - every caller is told, the queue goes on
            if is_refusal(error) and len(batch) > 1:
                # One item the database will not take must not cost its neighbours: each half is tried alone.
                middle = len(batch) // 2
                await self._commit_batch(batch[:middle])
                await self._commit_batch(batch[middle:])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in answers:
            if not future.done():
                future.set_result(result)

    async def _commit_with_retries(self, items: Sequence[Item]) -> Sequence[Result]:
        began, pause = time.monotonic(), _FIRST_PAUSE
        for tries in count(1):
            try:
                tried = time.perf_counter()
                results = await self._commit(items)
                if self._export_metrics:
                    metrics.commit_seconds.observe(time.perf_counter() - tried)
            except Exception as error:
                metrics.commit_failures.inc()
                log.warning("commit failed", size=len(items), **failure_of(error))
                if is_refusal(error):
                    raise
                # One try may use up the whole time by running into a timeout: there is always a second one.
                if tries > 1 and time.monotonic() - began + pause > self._retry_timeout:
                    raise Unavailable("The database cannot be reached.", retry_after=5) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return results
        raise AssertionError("counting has no end")
