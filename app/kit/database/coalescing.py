"""Reads shared by a multitude: many callers, one question to the database at a time.

The mirror image of group commit: everybody who asks while a read is under way shares the next one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

_MOST_KEPT = 10_000
# Seconds. One read serves everybody who asks, so one that hangs must not hold them all.
_READ_TIMEOUT = 10


class CoalescingReader(Generic[Key, Value]):
    """Values by key, re-read at most every `seconds`; `fresh` insists on a read that starts after it was asked."""

    def __init__(self, read: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]], seconds: float = 1.0) -> None:
        self._read = read
        self._seconds = seconds
        self._kept: dict[Key, tuple[float, Value]] = {}
        self._asked: dict[Key, asyncio.Future[Value | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    def kept(self, key: Key) -> Value | None:
        """The value if it was read within the last `seconds`."""
        entry = self._kept.get(key)
        return entry[1] if entry is not None and time.monotonic() - entry[0] < self._seconds else None

    async def get(self, key: Key) -> Value | None:
        """The value, at most `seconds` old; None when there is none."""
        value = self.kept(key)
        return value if value is not None else await self.fresh(key)

    async def fresh(self, key: Key) -> Value | None:
        """The value as of now or later; None when there is none. Raises what the read raised."""
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_all())
        return await asyncio.shield(future)

    async def _read_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            await self._answer(asked)
        self._reading = None

    async def _answer(self, asked: dict[Key, asyncio.Future[Value | None]]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                found = await self._read(list(asked))
        except Exception as error:  # noqa: BLE001 - whoever asked is told; the reader itself goes on
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # those who left in the meantime leave no warning behind
            return
        if len(self._kept) > _MOST_KEPT:
            self._kept.clear()
        for key, future in asked.items():
            value = found.get(key)
            if value is None:
                self._kept.pop(key, None)
            else:
                self._kept[key] = (began, value)
            future.set_result(value)
