"""Request coalescing (single flight): many callers, one query to the database at a time.

The mirror image of group commit: everybody who asks while a read is under way shares the next one. What was read is
cached for a second or so, and nobody keeps the database busy by asking.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

_MOST_CACHED = 10_000
# Seconds. One read serves everybody who asks, so one that hangs must not block them all.
_READ_TIMEOUT = 10


class CoalescingReader(Generic[Key, Value]):
    """Values by key, cached for `seconds`. `refresh` insists on a read that starts after it was called."""

    def __init__(self, read: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]], seconds: float = 1.0) -> None:
        self._read = read
        self._seconds = seconds
        self._cached: dict[Key, tuple[float, Value]] = {}
        self._requested: dict[Key, asyncio.Future[Value | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    def peek(self, key: Key) -> Value | None:
        """The cached value, if it was read within the last `seconds`; nothing is read."""
        entry = self._cached.get(key)
        return entry[1] if entry is not None and time.monotonic() - entry[0] < self._seconds else None

    async def get(self, key: Key) -> Value | None:
        """The value, at most `seconds` old; None when there is none."""
        value = self.peek(key)
        return value if value is not None else await self.refresh(key)

    async def refresh(self, key: Key) -> Value | None:
        """The value as of now or later; None when there is none. Raises what the read raised."""
        future = self._requested.get(key)
        if future is None:
            future = self._requested[key] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_all())
        return await asyncio.shield(future)

    async def _read_all(self) -> None:
        while self._requested:
            requested, self._requested = self._requested, {}
            await self._answer(requested)
        self._reading = None

    async def _answer(self, requested: dict[Key, asyncio.Future[Value | None]]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                found = await self._read(list(requested))
        except Exception as error:  # noqa: BLE001 - every caller is told; the reader itself goes on
            for future in requested.values():
                future.set_exception(error)
                future.exception()  # callers who have gone away leave no warning behind
            return
        if len(self._cached) > _MOST_CACHED:
            self._cached.clear()
        for key, future in requested.items():
            value = found.get(key)
            if value is None:
                self._cached.pop(key, None)
            else:
                self._cached[key] = (began, value)
            future.set_result(value)
