"""Group commit: nobody is answered before the commit, nobody is lost, and nobody pays for a neighbour."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.registry import REGISTRY

from app.kit.database import group_commit
from app.kit.database.group_commit import GroupCommit, QueueFull
from app.kit.problems import Unavailable

Commit = Callable[[Sequence[int]], Awaitable[Sequence[int]]]


class Store:
    """Takes batches, holds them up when told to, and fails as it is told."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.tried = 0
        self.errors: list[Exception] = []
        self.poison: set[int] = set()
        self.busy = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def commit(self, items: Sequence[int]) -> list[int]:
        self.tried += 1
        self.busy.set()
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.poison & set(items):
            raise asyncpg.CheckViolationError("a row the database will not take")
        self.taken.append(list(items))
        return [item * 10 for item in items]

    def hold(self) -> None:
        self.busy.clear()
        self.go_on.clear()


@asynccontextmanager
async def queue_of(commit: Commit, **more: Any) -> AsyncIterator[GroupCommit[int, int]]:
    limits = {"queue_limit": 1000, "batch_limit": 100, "retry_timeout": 5.0, **more}
    queue: GroupCommit[int, int] = GroupCommit(commit, **limits)
    queue.start()
    try:
        yield queue
    finally:
        async with asyncio.timeout(60):
            await queue.drain()


async def _together(queue: GroupCommit[int, int], items: Sequence[int]) -> list[Any]:
    return await asyncio.gather(*(queue.submit(item) for item in items), return_exceptions=True)


async def _waiting(queue: GroupCommit[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(queue.submit(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_FIRST_PAUSE", 0.001)


async def test_alone_one_is_a_batch_and_in_a_crowd_many_are() -> None:
    store = Store()
    async with queue_of(store.commit) as queue:
        assert await queue.submit(1) == 10
        store.hold()
        first = await _waiting(queue, [2])
        await store.busy.wait()
        crowd = await _waiting(queue, range(3, 103))
        store.go_on.set()
        assert await asyncio.gather(*first, *crowd) == [n * 10 for n in range(2, 103)]
    assert [len(batch) for batch in store.taken] == [1, 1, 100]


async def test_nobody_is_answered_before_the_commit() -> None:
    store = Store()
    async with queue_of(store.commit) as queue:
        store.hold()
        (waiting,) = await _waiting(queue, [1])
        await store.busy.wait()
        assert not waiting.done()
        store.go_on.set()
        assert await waiting == 10


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(0, 60),
    batch_limit=st.integers(1, 12),
    poison=st.sets(st.integers(0, 60), max_size=4),
)
async def test_everybody_gets_the_own_answer(count: int, batch_limit: int, poison: set[int]) -> None:
    store = Store()
    store.poison = poison
    async with queue_of(store.commit, batch_limit=batch_limit) as queue:
        answers = await _together(queue, range(count))
    for item, answer in enumerate(answers):
        assert isinstance(answer, asyncpg.CheckViolationError) if item in poison else answer == item * 10
    assert sorted(n for batch in store.taken for n in batch) == [n for n in range(count) if n not in poison]
    assert all(len(batch) <= batch_limit for batch in store.taken)


async def test_a_full_queue_refuses_and_loses_nothing() -> None:
    store = Store()
    async with queue_of(store.commit, queue_limit=5) as queue:
        store.hold()
        first = await _waiting(queue, [0])
        await store.busy.wait()
        waiting = await _waiting(queue, range(1, 6))
        with pytest.raises(QueueFull) as refused:
            await queue.submit(99)
        assert int(refused.value.headers["Retry-After"]) >= 1
        store.go_on.set()
        assert await asyncio.gather(*first, *waiting) == [n * 10 for n in range(6)]
        assert await queue.submit(6) == 60
    assert 99 not in {n for batch in store.taken for n in batch}


async def test_a_lost_connection_is_tried_again_with_the_same_items() -> None:
    store = Store()
    store.errors = [ConnectionError(), asyncpg.ConnectionDoesNotExistError(), asyncpg.SerializationError(), OSError()]
    async with queue_of(store.commit) as queue:
        assert await _together(queue, [1, 2, 3]) == [10, 20, 30]
    assert (store.taken, store.tried) == ([[1, 2, 3]], 5)


async def test_a_commit_that_keeps_failing_is_told_to_everybody_and_the_queue_goes_on() -> None:
    store = Store()
    store.errors = [ConnectionError("10.0.0.1 is out of reach")] * 1000
    async with queue_of(store.commit, retry_timeout=0.01) as queue:
        answers = await _together(queue, [1, 2, 3])
        assert [type(answer) for answer in answers] == [Unavailable] * 3
        assert "10.0.0.1" not in str([answer.body("r") for answer in answers])
        store.errors.clear()
        assert await queue.submit(4) == 40
    assert store.taken == [[4]]


async def test_one_poisoned_item_is_refused_alone() -> None:
    store = Store()
    store.poison = {5}
    async with queue_of(store.commit) as queue:
        answers = await _together(queue, range(16))
    assert isinstance(answers.pop(5), asyncpg.CheckViolationError)
    assert answers == [n * 10 for n in range(16) if n != 5]
    # Halved until it stands alone: refused values are not tried again for their own sake.
    assert store.tried <= 2 * 4 + 1


async def test_draining_settles_all_that_was_taken_and_takes_no_more() -> None:
    store = Store()
    async with queue_of(store.commit, batch_limit=3) as queue:
        store.hold()
        waiting = await _waiting(queue, range(10))
        await store.busy.wait()
        draining = asyncio.create_task(queue.drain())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await queue.submit(99)
        assert not draining.done()
        store.go_on.set()
        await draining
        assert await asyncio.gather(*waiting) == [n * 10 for n in range(10)]
    assert 99 not in {n for batch in store.taken for n in batch}


async def test_who_hangs_up_is_committed_all_the_same() -> None:
    store = Store()
    async with queue_of(store.commit) as queue:
        store.hold()
        leaving, staying = await _waiting(queue, [1, 2])
        await store.busy.wait()
        leaving.cancel()
        store.go_on.set()
        assert await staying == 20
    assert store.taken == [[1, 2]]


async def test_the_metrics_tell_of_the_public_queue_alone() -> None:
    def told() -> dict[str, float | None]:
        names = ("batch_size_count", "commit_seconds_count", "queue_depth")
        return {name: REGISTRY.get_sample_value(f"multitude_{name}") for name in names}

    store, before = Store(), told()
    async with queue_of(store.commit, export_metrics=False) as queue:
        store.hold()
        waiting = [asyncio.create_task(queue.submit(number)) for number in range(3)]
        await store.busy.wait()
        assert told() == before
        store.go_on.set()
        await asyncio.gather(*waiting)
    assert told() == before
    async with queue_of(store.commit) as queue:
        await queue.submit(1)
    assert told() != before
