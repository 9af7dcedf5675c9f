"""Structured logs without personal data.

A log line carries an event name and plain facts: route templates, counts, durations, ids of our own. Exceptions are
logged as type and place, never as message: a driver's message quotes the row it failed on.
"""

import asyncio
import logging
import sys
import traceback
from collections import Counter
from contextlib import suppress
from typing import Any

import structlog

_FRAMES = 8
log: structlog.stdlib.BoundLogger = structlog.get_logger("multitude")


def configure(level: str = "INFO", form: str = "auto") -> None:
    """Send our lines and those of libraries to standard error: as JSON, or for a person's eyes when one is watching."""
    for_person = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_messages,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if for_person else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level]), handlers=[handler], force=True
    )


class ThrottledWarning:
    """A warning about what strangers can bring about as often as they like: at most one line a minute for each reason.

    The first is logged at once; the others of that minute are told as a number when it is over.
    """

    def __init__(self, event: str, seconds: float = 60) -> None:
        self._event = event
        self._seconds = seconds
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """It has happened once more. Outside of an event loop, where no minute ends, each is logged."""
        if reason in self._counts:
            self._counts[reason] += 1
            return
        log.warning(self._event, reason=reason, count=1)
        with suppress(RuntimeError):
            self._begin(reason)

    def _begin(self, reason: str) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._end, reason)
        self._counts[reason] = 0

    def _end(self, reason: str) -> None:
        if count := self._counts.pop(reason):
            log.warning(self._event, reason=reason, count=count)
            self._begin(reason)


def failure_of(error: BaseException) -> dict[str, Any]:
    """An exception as facts: its type and the last places it passed, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "at": [f"{frame.filename.rpartition('/site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _without_messages(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Replace exception info, ours or a library's, by type and place."""
    record = entry.get("_record")
    info = entry.pop("exc_info", None) or (record.exc_info if record is not None else None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if record is not None:
        record.exc_info = record.exc_text = record.stack_info = None
    if isinstance(error, BaseException):
        entry.update(failure_of(error))
    return entry
