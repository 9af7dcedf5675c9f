"""Rate limits: how often one key may do one thing, counted in this process or in a store that all processes share.

Windows are fixed, and each begins with the first hit of its key. A sliding window counter only estimates: it weighs the
previous window by the share of it that is left. With a limit of one, that one hit would soon weigh less than one, and
what may be used once could be used twice. The price of a fixed window is known: twice the limit, across its end.

Without a shared store, and while it cannot be reached, every process counts for itself.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from app.kit.abuse.settings import AbuseSettings
from app.kit.clock import now
from app.kit.logs import failure_of, log
from app.kit.problems import Problem

if TYPE_CHECKING:
    from app.kit.abuse.valkey import ValkeyStorage

# Seconds. While the shared store cannot be reached, one hit in so many seconds tries it again.
PAUSE = 3.0
# Keys remembered for each length of window. So many took 51 MiB.
MOST_KEYS = 200_000
_RETRY_AFTER = 60

_parsed = lru_cache(maxsize=256)(parse)


class TooManyRequests(Problem):
    """Too many requests; try again later."""

    status = 429
    slug = "too-many-requests"

    def __init__(self, detail: str | None = None, *, retry_after: int = _RETRY_AFTER) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class MemoryStorage(Storage):
    """Counts in this process. A hit took 4 microseconds with ten keys and 6 with 200,000, and memory is bounded.

    The library's own storage searches all keys for expired ones, again and again: with 200,000 keys a hit took 47
    milliseconds. Windows of one length end in the order in which they began, so it is enough to look at the oldest:
    each hit drops up to two expired ones, and when there are too many keys, the oldest window is dropped early.
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

    failures: tuple[type[Exception], ...] = (OSError,)

    async def close(self) -> None:
        """Nothing to close: there is no connection."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self.count(key, expiry, amount)

    def count(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count so many more hits of this key in its window of `expiry` seconds; how many that makes."""
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

    def _window_of(self, key: str) -> tuple[int, float]:
        """The hits of a key, and the seconds left of its window."""
        moment = self._clock()
        found = (windows[key] for windows in self._windows.values() if key in windows)
        return next(((count, end - moment) for count, end in found if end > moment), (0, 0.0))

    async def get(self, key: str) -> int:
        return self._window_of(key)[0]

    async def get_expiry(self, key: str) -> float:
        return now().timestamp() + self._window_of(key)[1]

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


class Limiter:
    """Rate limiter. While the shared store cannot be reached it counts in this process alone: there is always a limit.

    `degraded` says whether the last answer was such a one: what other processes have counted is then not known.
    """

    def __init__(self, storage: "MemoryStorage | ValkeyStorage") -> None:
        self._storage = storage
        self._windows = FixedWindowRateLimiter(storage)
        self._local = FixedWindowRateLimiter(MemoryStorage())
        self.degraded = False
        self._retry_at = 0.0

    async def hit(self, limit: str | RateLimitItem, *identifiers: str | bytes) -> bool:
        """Count one more hit; whether it is within the limit, which is written like `5 per 10 minutes`.

        Identifiers are digests or ids, never personal: the shared store keeps them as they are. They hold no "/".
        """
        item = _parsed(limit) if isinstance(limit, str) else limit
        names = [name.hex() if isinstance(name, bytes) else name for name in identifiers]
        if self.degraded and not self._is_retry():
            return await self._local.hit(item, *names)
        try:
            within = await self._windows.hit(item, *names)
        except self._storage.failures as error:
            self._degrade(error)
            return await self._local.hit(item, *names)
        if self.degraded:
            self.degraded = False
            log.info("limits are shared again")
        return within

    async def hit_in_turn(self, hits: Sequence[tuple[str, Sequence[str | bytes]]]) -> bool:
        """Count one more of each (limit, identifiers), up to the first that is over its limit; whether none is.

        In memory they are counted past the library, in half the time (two hits took 7 microseconds): every signer waits
        for them.
        """
        for limit, names in hits:
            if isinstance(self._storage, MemoryStorage):
                within = _is_within(self._storage, limit, names)
            else:
                within = await self.hit(limit, *names)
            if not within:
                return False
        return True

    def _is_retry(self) -> bool:
        """Whether this hit is the one that tries the store again; the others go on without waiting."""
        moment = time.monotonic()
        if moment < self._retry_at:
            return False
        self._retry_at = moment + PAUSE
        return True

    def _degrade(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + PAUSE
        if not self.degraded:
            self.degraded = True
            log.error("limits cannot be shared", **failure_of(error))

    async def close(self) -> None:
        """Close the connection to the shared store, if there is one."""
        await self._storage.close()


def _is_within(storage: MemoryStorage, limit: str, identifiers: Sequence[str | bytes]) -> bool:
    item = _parsed(limit)
    names = [name.hex() if isinstance(name, bytes) else name for name in identifiers]
    return storage.count(item.key_for(*names), item.get_expiry()) <= item.amount


def open_limiter(settings: AbuseSettings) -> Limiter:
    """The limiter of this process: shared when `RATE_LIMIT_URL` is set. Nothing is connected before the first hit."""
    url = settings.rate_limit_url
    if url is None:
        return Limiter(MemoryStorage())
    # Imported only when it is used: its client takes 2.7 MiB in every process.
    from app.kit.abuse.valkey import ValkeyStorage

    return Limiter(ValkeyStorage(url.get_secret_value()))
