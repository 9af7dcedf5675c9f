"""Backoff: a message that was not taken is sent again soon at first, less and less often later, for three days."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LIFETIME = timedelta(days=3)
# Seconds after the first failure, the second, ...; the last again and again.
_DELAYS = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 12 * 3600)
# Endpoints that failed together must not be tried again together.
_JITTER = 0.2
# How long a receiver can ask us to wait.
_LONGEST_ASKED = timedelta(hours=12)
# Characters of what asks for it: a date has 29, and what is longer is neither that nor a number of seconds.
_LONGEST_TEXT = 64


def due_again(moment: datetime, attempt_count: int, retry_after: str | None) -> datetime:
    """When to send again after so many failed attempts; `retry_after` is the header of that name."""
    delay = _DELAYS[min(attempt_count, len(_DELAYS)) - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return moment + max(timedelta(seconds=delay), _asked(moment, retry_after))


def _asked(moment: datetime, retry_after: str | None) -> timedelta:
    """What the receiver asks for, within bounds: seconds, or a date (RFC 9110, section 10.2.3)."""
    text = (retry_after or "").strip()
    if len(text) > _LONGEST_TEXT:
        return timedelta(0)
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text), _LONGEST_ASKED.total_seconds()))
    try:
        date = parsedate_to_datetime(text)
        asked = (date if date.tzinfo else date.replace(tzinfo=UTC)) - moment
    except Exception:  # noqa: BLE001 - a stranger wrote it, and of what parsing raises no list is promised
        return timedelta(0)
    return min(max(asked, timedelta(0)), _LONGEST_ASKED)
