"""The servers that are measured, and what they hold in memory."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.services import Server, free_port, multitude

MEBIBYTE = 1024 * 1024


def largest_rss(server: Server) -> float:
    """Resident memory of the largest of a server's processes, in MiB."""
    return max(resident(server.pid), default=0.0)


def resident(pid: int) -> list[float]:
    """Resident memory of a process and of each of its children, in MiB; of those that still live."""
    sizes = []
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes.append(process.memory_info().rss / MEBIBYTE)
    return sizes


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started; ended in good order when the block is."""
    try:
        server.start()
        yield server
        server.end(60)
    finally:
        server.kill()


def compared(app: str, *, ready: str, workers: int = 1, **settings: str) -> Server:
    """One of `bench.apps` under uvicorn, with the settings `multitude serve` gives it."""
    port = free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", f"bench.apps.{app}:app", "--host", "127.0.0.1"]
    quiet = ["--no-access-log", "--no-server-header", "--no-proxy-headers", "--log-level", "warning"]
    fast = ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--backlog", "4096"]
    size = ["--workers", str(workers), "--port", str(port)]
    return Server([*uvicorn, *quiet, *fast, *size], port=port, ready=ready, settings=settings)


def ours(folder: Path, *, workers: int = 1, **settings: str) -> Server:
    """`multitude serve`."""
    port = free_port()
    arguments = multitude("serve", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers))
    # What a killed service leaves in its temporary folder goes when ours does.
    return Server(arguments, port=port, ready="/readyz", settings=settings | {"TMPDIR": str(folder)})
