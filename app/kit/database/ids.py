"""Identifiers: UUIDv7 (RFC 9562), made here because PostgreSQL before 18 and Python before 3.14 make none."""

import os
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_62_BITS = (1 << 62) - 1


def uuid7() -> UUID:
    """A fresh UUIDv7: 48 bits of milliseconds, 12 bits of sub-millisecond fraction, 62 random bits.

    The fraction (RFC 9562, section 6.2, method 3) keeps ids made in one process in the order of their making
    down to a quarter of a microsecond.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8)) & _RANDOM_62_BITS
    return UUID(int=milliseconds << 80 | _VERSION_7 | fraction << 64 | _VARIANT | random)
