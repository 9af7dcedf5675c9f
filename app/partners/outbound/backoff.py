"""When a message that was not taken is sent again: soon at first, seldom later, for three days."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LIFETIME = timedelta(days=3)
# Seconds after the first failure, the second, ...; the last again and again.
_DELAYS = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 12 * 3600)
# Endpoints that failed together must not be asked together again.
_JITTER = 0.2
# How long a receiver can ask us to wait.
_LONGEST_ASKED = timedelta(hours=12)


def due_again(moment: datetime, attempt_count: int, retry_after: str | None) -> datetime:
    """When to send what has failed so often, this time included; `retry_after` is the header of that name."""
    delay = _DELAYS[min(attempt_count, len(_DELAYS)) - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return moment + max(timedelta(seconds=delay), _asked(moment, retry_after))


def _asked(moment: datetime, retry_after: str | None) -> timedelta:
    """What the receiver asks for, within bounds: seconds, or a date (RFC 9110, section 10.2.3)."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _LONGEST_ASKED)
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return timedelta(0)
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(aware - moment, timedelta(0)), _LONGEST_ASKED)
