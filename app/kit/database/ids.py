"""Identifiers: UUIDv7 (RFC 9562), made here because PostgreSQL before 18 and Python before 3.14 make none."""

import os
import time
from datetime import UTC, datetime
from threading import Lock
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_62_BITS = (1 << 62) - 1
# The least step between two ids of one second; more than a webhook has signatures (`partners/inbound/acceptance.py`).
_LEAST_STEP = 1 << 20


def uuid7() -> UUID:
    """A fresh UUIDv7: 48 bits of milliseconds, 12 bits of sub-millisecond fraction, 62 random bits.

    The fraction (RFC 9562, section 6.2, method 3) keeps ids made in one process in the order of their making
    down to a quarter of a microsecond.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8)) & _RANDOM_62_BITS
    return UUID(int=milliseconds << 80 | _VERSION_7 | fraction << 64 | _VARIANT | random)


def uuid7_of_second() -> UUID:
    """A fresh UUIDv7 that tells its time to the second only (RFC 9562, 6.1: "altering"): 73 bits are random.

    For rows that tell what a person did. Ids made in one process are in the order of their making: within a second each
    is the one before and a random step (6.2, method 2), which tells no more than the order of rows in a table does.
    """
    return _of_second.next()


def made_at(id_: UUID) -> datetime:
    """When an id (UUIDv7) was made: UTC, to the second or finer."""
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)


def uuid7_after(id_: UUID) -> UUID:
    """A fresh UUIDv7 to the second that is higher than this one, whichever process or clock has made that."""
    fresh = uuid7_of_second()
    return fresh if fresh > id_ else UUID(int=id_.int + _step())


class _OfSecond:
    """The ids of one process. It starts anew with each second, also when the clock steps back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._second, self._last = 0, 0

    def next(self) -> UUID:
        second = int(time.time())
        with self._lock:
            if second == self._second:
                self._last += _step()
            else:
                self._second, self._last = second, _first_of(second)
            return UUID(int=self._last)


_of_second = _OfSecond()


def _first_of(second: int) -> int:
    """Of the 62 bits at the end the highest stays 0: there is room for all steps of a second."""
    random = int.from_bytes(os.urandom(10))
    return second * 1000 << 80 | _VERSION_7 | (random >> 62 & 0xFFF) << 64 | _VARIANT | random & _RANDOM_62_BITS >> 1


def _step() -> int:
    return _LEAST_STEP + int.from_bytes(os.urandom(4))
