"""Valkey storage for rate limits: hits are counted in a Valkey or Redis server, for all processes together."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from limits.aio.storage import RedisStorage
from valkey.asyncio import ConnectionPool, Valkey
from valkey.exceptions import ValkeyError

# Seconds. A hit waits no longer for the store.
PATIENCE = 0.25
# Turns of the event loop it takes to read an answer that has arrived: socket, reader, parser, and some to spare.
_GRACE_TURNS = 10
_MOST_AT_ONCE = 500
_PREFIX = "multitude"
# Takes keys, and for each the length of its window and its hits; returns the new counts. A key expires with its window.
_ADD = """
local counts = {}
for i, key in ipairs(KEYS) do
    local amount = tonumber(ARGV[2 * i])
    counts[i] = redis.call('incrby', key, amount)
    if counts[i] == amount then
        redis.call('expire', key, ARGV[2 * i - 1])
    end
end
return counts
"""

Answer = TypeVar("Answer")


class ValkeyStorage(RedisStorage):
    """Counts in a Valkey or Redis server. Hits that arrive while one call is under way go together in the next.

    So a process needs one connection, and a crowd costs few round trips. With the library's one round trip for each
    hit, 2,048 hits at once waited for each other longer than PATIENCE.
    """

    STORAGE_SCHEME = None  # type: ignore[assignment]  # not registered under a name, unlike the class it extends

    # The errors that mean that the store cannot be reached.
    failures: tuple[type[Exception], ...] = (ValkeyError, OSError)

    def __init__(self, url: str) -> None:
        pool = ConnectionPool.from_url(url, socket_keepalive=True)
        # The library passes its options on, a pool among them, and declares them as plain values.
        options: dict[str, Any] = {"connection_pool": pool, "key_prefix": _PREFIX}
        super().__init__("valkey://", **options)
        self._pool = pool
        self._add = Valkey(connection_pool=pool).register_script(_ADD)
        self._waiting: list[tuple[str, int, int, asyncio.Future[int]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, expiry, amount, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await future

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            try:
                counts = await _in_time(self._send(batch))
            except Exception as error:  # noqa: BLE001 - every caller is told, also those who wait for the next call
                batch, self._waiting = batch + self._waiting, []
                for _, _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, _, future), count in zip(batch, counts, strict=True):
                if not future.done():
                    future.set_result(count)
        self._sending = None

    async def _send(self, batch: list[tuple[str, int, int, asyncio.Future[int]]]) -> list[int]:
        arguments = [number for _, expiry, amount, _ in batch for number in (expiry, amount)]
        counts: list[int] = await self._add([f"{_PREFIX}:{key}" for key, _, _, _ in batch], arguments)
        return counts

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.disconnect()


async def _in_time(call: Awaitable[Answer]) -> Answer:
    """The answer; TimeoutError when there is none within PATIENCE."""
    task = asyncio.ensure_future(call)
    await asyncio.wait({task}, timeout=PATIENCE)
    # If the event loop was busy all that time, the answer may have arrived unread: give it a few turns.
    for _ in range(_GRACE_TURNS):
        if task.done():
            return task.result()
        await asyncio.sleep(0)
    task.cancel()
    # Nobody awaits it any more: take its exception, so that asyncio does not warn of it.
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    raise TimeoutError
