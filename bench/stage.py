"""What every bench needs: a temporary folder, a PostgreSQL in it, and enough open files for a crowd."""

import contextlib
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from bench.service import Services
from tests.support.postgres import Cluster

_FILES = 16_384


def _more_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _leave(*_: int | FrameType | None) -> None:
    sys.exit(143)


@contextlib.contextmanager
def stage() -> Iterator[tuple[Cluster, Services, Path]]:
    """A cluster and services on it, gone when the block ends, however it ends."""
    _more_files()
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="multitude-bench-") as name:
        folder = Path(name)
        # PostgreSQL may run as another user than ours and must be able to pass.
        folder.chmod(0o711)
        cluster = Cluster(folder / "data")
        services = Services(cluster, folder)
        try:
            yield cluster, services, folder
        finally:
            with contextlib.suppress(Exception):
                services.close()
            cluster.stop()
