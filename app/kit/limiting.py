"""Limits: how often the same one may do the same thing, counted in this process or in a store that many share.

Windows are fixed, and each begins with the first hit of its key. A sliding counter only estimates: it weighs the window
before by what is left of it, and one hit of one allowed would soon weigh less than one, so that what may be used once
could be used again. The price of a fixed one is known: twice the limit, across the end of a window.

Without a shared store every process counts for itself.
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from valkey.asyncio import ConnectionPool, Valkey
from valkey.exceptions import ValkeyError

from app.kit.clock import now
from app.kit.logs import failure_of, log
from app.kit.problems import Problem
from app.kit.settings import Settings

# Seconds. A hit waits no longer for the shared store; while the store is lost, one hit in so many seconds tries it.
PATIENCE = 0.25
PAUSE = 3.0
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
# Keys remembered for each length of window. They took 51 MiB.
MOST_KEYS = 200_000
_RETRY_AFTER = 60

Answer = TypeVar("Answer")

_parsed = lru_cache(maxsize=256)(parse)


class TooManyRequests(Problem):
    """Too many requests; try again later."""

    status = 429
    slug = "too-many-requests"

    def __init__(self, detail: str | None = None, *, retry_after: int = _RETRY_AFTER) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class Memory(Storage):
    """Counts in this process. A hit took 4 microseconds with ten keys and 6 with 200,000, and memory is bounded.

    The library's own looks through every key, again and again, for those that have expired: with 200,000 a hit took 47
    milliseconds. Windows of one length end in the order in which they began, so it is enough to look at the oldest:
    each hit drops up to two that are over, and when there are too many, the oldest one goes early.
    """

    STORAGE_SCHEME = None

    def __init__(self, most_keys: int = MOST_KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most_keys = most_keys
        self._clock = clock
        # By length: key -> (hits, end). In the order of their ends.
        self._windows: defaultdict[int, OrderedDict[str, tuple[int, float]]] = defaultdict(OrderedDict)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        moment, windows = self._clock(), self._windows[expiry]
        for _ in range(2):
            self._drop_oldest(windows, moment)
        count, end = windows.get(key, (0, moment + expiry))
        if end <= moment:
            del windows[key]
            count, end = 0, moment + expiry
        windows[key] = (count + amount, end)
        if len(windows) > self._most_keys:
            windows.popitem(last=False)
        return count + amount

    @staticmethod
    def _drop_oldest(windows: OrderedDict[str, tuple[int, float]], moment: float) -> None:
        if windows and next(iter(windows.values()))[1] <= moment:
            windows.popitem(last=False)

    def _found(self, key: str) -> tuple[int, float]:
        """Hits of a key, and the seconds left to its window."""
        moment = self._clock()
        found = (windows[key] for windows in self._windows.values() if key in windows)
        return next(((count, end - moment) for count, end in found if end > moment), (0, 0.0))

    async def get(self, key: str) -> int:
        return self._found(key)[0]

    async def get_expiry(self, key: str) -> float:
        return now().timestamp() + self._found(key)[1]

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        count = len(self)
        self._windows.clear()
        return count

    async def clear(self, key: str) -> None:
        for windows in self._windows.values():
            windows.pop(key, None)

    def __len__(self) -> int:
        return sum(map(len, self._windows.values()))


class Shared(RedisStorage):
    """Counts in a Valkey or Redis server. Hits that come while one question is under way go together in the next.

    So a process needs one connection, and a crowd costs few round trips: with the library's one for each hit, 2,048
    hits at once waited for each other longer than PATIENCE.
    """

    STORAGE_SCHEME = None  # type: ignore[assignment]  # it is not to be had by a name, like the class it extends

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


class Limiter:
    """Counts hits. It fails closed: while the shared store is lost, everybody is over the limit."""

    def __init__(self, storage: Memory | Shared) -> None:
        self._storage = storage
        self._windows = FixedWindowRateLimiter(storage)
        self.lost = False
        self._retry_at = 0.0

    async def hit(self, limit: str | RateLimitItem, *identifiers: str | bytes) -> bool:
        """Count one more, and whether it was within the limit, like `5 per 10 minutes`.

        Identifiers are digests or ids, never personal: the shared store keeps them as they are. They hold no "/".
        """
        item = _parsed(limit) if isinstance(limit, str) else limit
        names = [name.hex() if isinstance(name, bytes) else name for name in identifiers]
        if self.lost and not self._tries_again():
            return False
        try:
            within = await self._windows.hit(item, *names)
        except (ValkeyError, OSError) as error:
            self._note_loss(error)
            return False
        if self.lost:
            self.lost = False
            log.info("limits are shared again")
        return within

    def _tries_again(self) -> bool:
        """Whether this hit is the one that asks whether the store is back; the others go on without waiting."""
        moment = time.monotonic()
        if moment < self._retry_at:
            return False
        self._retry_at = moment + PAUSE
        return True

    def _note_loss(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + PAUSE
        if not self.lost:
            self.lost = True
            log.error("limits cannot be shared", **failure_of(error))

    async def close(self) -> None:
        """Let the shared store go, if there is one."""
        if isinstance(self._storage, Shared):
            await self._storage.close()


def open_limiter(settings: Settings) -> Limiter:
    """The limiter of this process: shared when `RATE_LIMIT_URL` is set. Nothing is connected before the first hit."""
    url = settings.rate_limit_url
    return Limiter(Shared(url.get_secret_value()) if url else Memory())
