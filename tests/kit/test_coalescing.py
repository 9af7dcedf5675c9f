"""Reads shared by a multitude: one question at a time, and never an answer older than it may be."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from app.kit.database.coalescing import CoalescingReader


class Source:
    """A slow source of numbers, which counts who asks; each read answers what was true when it began."""

    def __init__(self) -> None:
        self.value = 0
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def read(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(sorted(keys))
        seen, error = self.value, self.error
        self.reading.set()
        await self.go_on.wait()
        if error is not None:
            raise error
        return {key: seen for key in keys if key != "nothing"}

    def hold(self) -> None:
        self.reading.clear()
        self.go_on.clear()


async def test_a_value_is_read_once_while_it_is_fresh() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read, seconds=60)
    assert snapshots.peek("a") is None
    assert [await snapshots.get("a") for _ in range(5)] == [0] * 5
    source.value = 1
    assert await snapshots.get("a") == snapshots.peek("a") == 0
    assert source.asked == [["a"]]


async def test_a_value_is_read_again_when_it_is_old() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read, seconds=0)
    assert await snapshots.get("a") == 0
    source.value = 1
    assert await snapshots.get("a") == 1


async def test_everybody_who_asks_meanwhile_shares_the_next_read() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read)
    source.hold()
    first = asyncio.create_task(snapshots.get("a"))
    await source.reading.wait()
    crowd = [asyncio.create_task(snapshots.get(key)) for key in "abc" * 100]
    await asyncio.sleep(0)
    source.go_on.set()
    assert await asyncio.gather(first, *crowd) == [0] * 301
    assert source.asked == [["a"], ["a", "b", "c"]]


async def test_fresh_never_answers_with_what_was_read_before_it_was_asked() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read, seconds=60)
    assert await snapshots.get("a") == 0
    source.hold()
    first = asyncio.create_task(snapshots.refresh("a"))
    await source.reading.wait()
    source.value = 1
    second = asyncio.create_task(snapshots.refresh("a"))
    await asyncio.sleep(0)
    source.go_on.set()
    assert (await first, await second) == (0, 1)
    assert snapshots.peek("a") == 1


async def test_an_age_is_counted_from_when_the_read_began(monkeypatch: pytest.MonkeyPatch) -> None:
    source, seconds = Source(), [100.0]
    monkeypatch.setattr("app.kit.database.coalescing.time.monotonic", lambda: seconds[0])
    snapshots = CoalescingReader(source.read, seconds=1)
    source.hold()
    slow = asyncio.create_task(snapshots.get("a"))
    await source.reading.wait()
    seconds[0] += 2
    source.go_on.set()
    assert await slow == 0
    assert snapshots.peek("a") is None


async def test_what_is_not_there_is_not_kept() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read)
    assert [await snapshots.get("nothing") for _ in range(3)] == [None] * 3
    assert len(source.asked) == 3


async def test_what_has_gone_is_forgotten() -> None:
    there = {"a": 1}

    async def read(_keys: Sequence[str]) -> Mapping[str, int]:
        return dict(there)

    snapshots = CoalescingReader(read, seconds=60)
    assert await snapshots.get("a") == 1
    there.clear()
    assert await snapshots.refresh("a") is None
    assert snapshots.peek("a") is None
    there["a"] = 2
    assert await snapshots.get("a") == 2


async def test_a_failing_read_is_told_to_those_who_asked_and_to_nobody_else() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read, seconds=60)
    source.error = OSError("out of reach")
    answers = await asyncio.gather(*(snapshots.get("a") for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError] * 3
    source.error = None
    assert await snapshots.get("a") == 0


async def test_who_leaves_early_takes_nothing_from_the_others() -> None:
    source = Source()
    snapshots = CoalescingReader(source.read)
    source.hold()
    leaving, staying = (asyncio.create_task(snapshots.get("a")) for _ in range(2))
    await source.reading.wait()
    leaving.cancel()
    await asyncio.sleep(0)
    source.go_on.set()
    assert await staying == 0
    assert leaving.cancelled()


async def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.kit.database.coalescing._MOST_CACHED", 10)
    source = Source()
    snapshots = CoalescingReader(source.read, seconds=60)
    for number in range(100):
        await snapshots.get(str(number))
    assert sum(snapshots.peek(str(number)) is not None for number in range(100)) <= 12
    assert snapshots.peek("99") == 0
