"""The embedded PostgreSQL server: a real one in the data folder, started and stopped with the service.

In the data folder: `postgres/` (the database), `socket/`, `postgres.log`, `postgres.password` (for the port; the socket
needs none, its folder is closed to others) and `lock`, held while a service runs.

PostgreSQL refuses to run as root, so root's service runs it as another user. When that user cannot reach the data
folder (a checkout in root's home, for example), `postgres` is a link into `SHARED_FOLDER` and the socket is there too.
The permissions of existing folders are never changed.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from app.embedded_postgres.binaries import EmbeddedPostgresError
from app.embedded_postgres.cluster import (
    DATABASE,
    Cluster,
    ensure_made,
    find_cluster,
    locked,
    make_data_dir,
    open_log,
    socket_folder,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

# Seconds. Recovery replays up to `max_wal_size`, minutes on a slow disk; a fast stop writes a checkpoint.
_START_TIMEOUT, _STOP_TIMEOUT, _QUIT_TIMEOUT = 300, 60, 10
# If the postmaster alone is killed, its busy children end after their statement; our longest takes 30 s.
_ORPHAN_TIMEOUT = 40
_STEP = 0.01
_PR_SET_PDEATHSIG = 1

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "jit": "off",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
    # Rows and statements hold personal data and must not reach the log. An error's first line can quote a value
    # ("invalid input syntax ..."), so the server logs only messages about itself; errors go to the service.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgres:
    """A server of its own for one service, and the database `multitude` in it; also a context manager.

    Call `start` and `restart` from the main thread: Linux ends the server with the thread that started it.
    """

    def __init__(self, cluster: Cluster, socket_folder: Path) -> None:
        self._cluster = cluster
        self._socket_folder = socket_folder
        self._held = ExitStack()
        self.port = _free_port()
        self.process = self._launch()

    @classmethod
    def start(cls, data_dir: Path) -> Self:
        """Start the server, making the database first if it is missing; EmbeddedPostgresError says why it cannot."""
        data_dir = data_dir.resolve()
        with _explaining_os_errors(data_dir), ExitStack() as held:
            server = cls(*_prepare(data_dir, held))
            held.callback(server._end)
            server._become_ready()
            server._held = held.pop_all()
        return server

    def restart(self) -> None:
        """Start the server again after it died; at the same address unless its port was taken."""
        with _explaining_os_errors(self._cluster.data_dir):
            self._end()
            self.process = self._launch()
            self._become_ready()

    def stop(self) -> None:
        """Stop the server and free the data folder; harmless to repeat."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """The database's URL by its socket, as asyncpg, SQLAlchemy and the PostgreSQL tools take it."""
        return f"postgresql://postgres@/{DATABASE}?host={self._socket_folder}&port={self.port}"

    @property
    def tcp_url(self) -> str:
        """The database's URL by the loopback port, with its password: not to be logged."""
        with _explaining_os_errors(self._cluster.data_dir):
            password = self._cluster.password.read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{DATABASE}"

    def _launch(self) -> "subprocess.Popen[bytes]":
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        place = ("-D", str(self._cluster.pgdata), "-k", str(self._socket_folder), "-p", str(self.port))
        with open_log(self._cluster) as log:
            self._log_began = log.seek(0, os.SEEK_END)
            return subprocess.Popen(
                [str(self._cluster.binaries.folder / "postgres"), *place, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the service, which still has signatures to commit.
                start_new_session=True,
                preexec_fn=_end_with_service(),  # noqa: PLW1509 - one system call
                **self._cluster.account.process_options,
            )

    def _become_ready(self) -> None:
        until = time.monotonic() + _START_TIMEOUT
        orphans_until = time.monotonic() + _ORPHAN_TIMEOUT
        while not self._ready(until):
            output = self._output()
            if "could not create any TCP/IP sockets" in output:
                self.port = _free_port()
            elif "pre-existing shared memory block" in output and time.monotonic() < orphans_until:
                time.sleep(10 * _STEP)
            else:
                raise EmbeddedPostgresError(f"PostgreSQL did not start: the last lines of {self._cluster.log} say why.")
            self.process = self._launch()

    def _ready(self, until: float) -> bool:
        """Wait until it takes connections (True), or has ended or run out of time (False)."""
        while self.process.poll() is None and time.monotonic() < until:
            lines = _postmaster(self._cluster.pgdata)
            if len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready":  # noqa: PLR2004
                return True
            time.sleep(_STEP)
        return False

    def _output(self) -> str:
        """What the server has logged since it was launched."""
        with self._cluster.log.open("rb") as log:
            log.seek(self._log_began)
            return log.read().decode(errors="replace")

    def _end(self) -> None:
        # Fast first: it rolls back what is open and writes a checkpoint; the others leave that to recovery.
        for sent, timeout in (
            (signal.SIGINT, _STOP_TIMEOUT),
            (signal.SIGQUIT, _QUIT_TIMEOUT),
            (signal.SIGKILL, None),
        ):
            self.process.send_signal(sent)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
                return


def _prepare(data_dir: Path, held: ExitStack) -> tuple[Cluster, Path]:
    """Everything before the server itself. `held` collects what must be freed when it stops."""
    make_data_dir(data_dir)
    held.enter_context(locked(data_dir))
    cluster = find_cluster(data_dir)
    if cluster.home != data_dir:  # two data folders may lead there when one is a copy
        held.enter_context(locked(cluster.home))
    _end_previous(cluster.pgdata)
    sockets = held.enter_context(socket_folder(cluster))
    ensure_made(cluster, sockets)
    return cluster, sockets


@contextmanager
def _explaining_os_errors(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise EmbeddedPostgresError(
            f"The data folder {data_dir} cannot be used: {error.strerror or error}{where}."
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_service() -> Callable[[], None] | None:
    """On Linux, the kernel ends the server when the service is killed; elsewhere the next start does."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))

    return ask


def _end_previous(pgdata: Path) -> None:
    """End a server that outlived its service. Whoever holds the lock may: no other service uses it."""
    lines = _postmaster(pgdata)
    pid = int(lines[0]) if lines and lines[0].isdigit() else 0
    for sent in (signal.SIGINT, signal.SIGQUIT):
        if _runs_on(pgdata, pid):
            _signal_and_wait(pgdata, pid, sent)
    if _runs_on(pgdata, pid):
        raise EmbeddedPostgresError(f"PostgreSQL still runs on {pgdata} and does not end: end process {pid}.")
    if "postgres" not in _command_of(pid):
        # PostgreSQL refuses to start while a process with this number exists, whichever it is: even the zombie of a
        # killed server. Without the file it still notices children that run on, by their shared memory.
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _signal_and_wait(pgdata: Path, pid: int, sent: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sent)
    until = time.monotonic() + _QUIT_TIMEOUT
    while _runs_on(pgdata, pid) and time.monotonic() < until:
        time.sleep(_STEP)


def _postmaster(pgdata: Path) -> list[str]:
    """The lines of `postmaster.pid`: process, folder, start, port, ..., status; [] when there is none."""
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _runs_on(pgdata: Path, pid: int) -> bool:
    """Whether that process is a server on this folder; a stale file's number may be another process's by now."""
    if pid == 0:
        return False
    command = _command_of(pid)
    return "postgres" in command and str(pgdata) in command


def _command_of(pid: int) -> str:
    if sys.platform != "linux":
        listed = subprocess.run(
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return listed.stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
