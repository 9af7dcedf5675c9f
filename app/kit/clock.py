"""The one clock: all times are aware and in UTC."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def this_second() -> datetime:
    """The present moment to the second, begun: what is kept in clear of what a person did when."""
    return datetime.fromtimestamp(int(time.time()), UTC)
