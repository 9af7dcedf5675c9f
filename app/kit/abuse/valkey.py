"""Hits counted in a Valkey or Redis server, for all processes together."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from limits.aio.storage import RedisStorage
from valkey.asyncio import ConnectionPool, Valkey
from valkey.exceptions import ValkeyError

# Seconds. A hit waits no longer for the store.
PATIENCE = 0.25
# Turns of the loop it takes to read an answer that has come: socket, reader, parser, and some to spare.
_GRACE = 10
_MOST_AT_ONCE = 500
_PREFIX = "multitude"
# Keys, and for each its length and its hits: the new counts. A key goes by itself when its window ends.
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
    """Counts in a Valkey or Redis server. Hits that come while one question is under way go together in the next.

    So a process needs one connection, and a crowd costs few round trips: with the library's one for each hit, 2,048
    hits at once waited for each other longer than PATIENCE.
    """

    STORAGE_SCHEME = None  # type: ignore[assignment]  # it is not to be had by a name, like the class it extends

    # What it raises when the store cannot be reached.
    failures: tuple[type[Exception], ...] = (ValkeyError, OSError)

    def __init__(self, url: str) -> None:
        pool = ConnectionPool.from_url(url, socket_keepalive=True)
        # The library passes its options on, a pool among them, and declares them as plain values.
        options: dict[str, Any] = {"connection_pool": pool, "key_prefix": _PREFIX}
        super().__init__("valkey://", **options)
        self._pool = pool
        self._add = Valkey(connection_pool=pool).register_script(_ADD)
        self._waiting: list[tuple[str, int, int, asyncio.Future[int]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, expiry, amount, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await future

    async def _ask_all(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            try:
                counts = await _in_time(self._ask(asked))
            except Exception as error:  # noqa: BLE001 - every caller is told, also those who wait for the next question
                asked, self._waiting = asked + self._waiting, []
                for _, _, _, future in asked:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, _, future), count in zip(asked, counts, strict=True):
                if not future.done():
                    future.set_result(count)
        self._asking = None

    async def _ask(self, asked: list[tuple[str, int, int, asyncio.Future[int]]]) -> list[int]:
        arguments = [number for _, expiry, amount, _ in asked for number in (expiry, amount)]
        counts: list[int] = await self._add([f"{_PREFIX}:{key}" for key, _, _, _ in asked], arguments)
        return counts

    async def close(self) -> None:
        """Let the connection go."""
        await self._pool.disconnect()


async def _in_time(asking: Awaitable[Answer]) -> Answer:
    """The answer; TimeoutError when there is none in time."""
    task = asyncio.ensure_future(asking)
    await asyncio.wait({task}, timeout=PATIENCE)
    # Where the loop was busy for so long, the answer may be lying there: let it be read.
    for _ in range(_GRACE):
        if task.done():
            return task.result()
        await asyncio.sleep(0)
    task.cancel()
    # Should it fail after all, nobody is left to be told.
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    raise TimeoutError
