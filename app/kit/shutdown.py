"""Graceful shutdown: hear the signal before the server waits for open connections, since we must end the streams."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_shutdown(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` in this event loop when the process is told to end; earlier signal handlers are still called."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def notify(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)

    for ending in _SIGNALS:
        signal.signal(ending, notify)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
