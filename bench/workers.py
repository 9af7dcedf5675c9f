"""`multitude worker`, started to work something off and watched while it does."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator

from bench.scenarios import Bench
from bench.servers import resident
from tests.support.postgres import SqlDatabase
from tests.support.services import environment, multitude

# Seconds without anything new after which no more is expected, and seconds the worker has to end.
_SILENCE, _PATIENCE = 20.0, 60.0


@contextlib.contextmanager
def working(bench: Bench, database: SqlDatabase, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for as long as the block lasts; it has ended in good order, or its status says otherwise."""
    chosen = environment(**bench.services.settings(database), **settings)
    process = subprocess.Popen(multitude("worker"), env=chosen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
        process.terminate()
        process.wait(_PATIENCE)
    finally:
        process.kill()
        process.wait()


def watch(bench: Bench, process: subprocess.Popen[bytes], count: Callable[[], int], expected: int, what: str) -> float:
    """Wait until all is there, or nothing has come for a while; the highest memory of the worker, in MiB."""
    sent, highest, silent_at = 0, 0.0, time.monotonic() + _SILENCE
    while sent < expected and time.monotonic() < silent_at and process.poll() is None:
        time.sleep(0.1)
        highest = max(highest, sum(resident(process.pid)))
        if (counted := count()) != sent:
            sent, silent_at = counted, time.monotonic() + _SILENCE
            bench.say(f"{sent:,} of {expected:,} {what} are there")
    return highest
