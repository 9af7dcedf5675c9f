"""The embedded PostgreSQL: a real server in the data folder, started and stopped with the service.

In the data folder: `postgres/` (the database), `socket/`, `postgres.log`, `postgres.password` (for the port;
the socket needs none, its folder is closed to others) and `lock`, held while a service runs.

PostgreSQL refuses to run as root, so root's service runs it as another user. When that user cannot reach the
data folder (a checkout in root's home, say), `postgres` is a link into `SHARED_FOLDER` and the socket is
there too. No folder that was there before is ever opened up.
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

from app.embedded_postgres.binaries import EmbeddedPostgresError, environment
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
_START_PATIENCE, _STOP_PATIENCE, _QUIT_PATIENCE = 300, 60, 10
# Until a postmaster killed alone has been missed by its last busy child (our longest statement takes 30 s).
_ORPHAN_PATIENCE = 40
_STEP = 0.01
_PR_SET_PDEATHSIG = 1

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "jit": "off",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
    # Rows and statements hold personal data and must not reach the log. An error's first line can quote a
    # value ("invalid input syntax ..."), so only what the server says of itself is logged; the service gets
    # the errors.
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
        """Start it, making the database first if need be; EmbeddedPostgresError says why it cannot."""
        data_dir = data_dir.resolve()
        with _explaining(data_dir), ExitStack() as held:
            server = cls(*_prepare(data_dir, held))
            held.callback(server._end)
            server._become_ready()
            server._held = held.pop_all()
        return server

    def restart(self) -> None:
        """Start it again after it died under its service; at the same address unless its port was taken."""
        with _explaining(self._cluster.data_dir):
            self._end()
            self.process = self._launch()
            self._become_ready()

    def stop(self) -> None:
        """End it and leave the data folder to the next service; harmless to repeat."""
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
        """The database by its socket, as asyncpg, SQLAlchemy and the PostgreSQL tools take it."""
        return f"postgresql://postgres@/{DATABASE}?host={self._socket_folder}&port={self.port}"

    @property
    def tcp_url(self) -> str:
        """The database by the loopback port, with its password: not to be logged."""
        with _explaining(self._cluster.data_dir):
            password = self._cluster.password.read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{DATABASE}"

    def _launch(self) -> "subprocess.Popen[bytes]":
        account = self._cluster.account
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        place = ("-D", str(self._cluster.pgdata), "-k", str(self._socket_folder), "-p", str(self.port))
        with open_log(self._cluster) as log:
            self._log_began = log.seek(0, os.SEEK_END)
            return subprocess.Popen(
                [str(self._cluster.binaries.folder / "postgres"), *place, *settings],
                user=account.uid,
                group=account.gid,
                extra_groups=account.extra_groups,
                cwd="/",
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the service, which still has signatures to commit.
                start_new_session=True,
                preexec_fn=_end_with_service(),  # noqa: PLW1509 - one system call
            )

    def _become_ready(self) -> None:
        until = time.monotonic() + _START_PATIENCE
        orphans_until = time.monotonic() + _ORPHAN_PATIENCE
        while not self._ready(until):
            said = self._said()
            if "could not create any TCP/IP sockets" in said:
                self.port = _free_port()
            elif "pre-existing shared memory block" in said and time.monotonic() < orphans_until:
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

    def _said(self) -> str:
        with self._cluster.log.open("rb") as log:
            log.seek(self._log_began)
            return log.read().decode(errors="replace")

    def _end(self) -> None:
        # Fast first: it rolls back what is open and writes a checkpoint; the others leave that to recovery.
        for sent, patience in (
            (signal.SIGINT, _STOP_PATIENCE),
            (signal.SIGQUIT, _QUIT_PATIENCE),
            (signal.SIGKILL, None),
        ):
            self.process.send_signal(sent)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                return


def _prepare(data_dir: Path, held: ExitStack) -> tuple[Cluster, Path]:
    """Everything before the server itself; `held` gives the data folder back."""
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
def _explaining(data_dir: Path) -> Iterator[None]:
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
    """On Linux, have the server told to end when the service is killed; elsewhere the next start ends it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))

    return ask


def _end_previous(pgdata: Path) -> None:
    """End a server that outlived its service: whoever holds the lock may, since no other service owns it."""
    lines = _postmaster(pgdata)
    pid = int(lines[0]) if lines and lines[0].isdigit() else 0
    for sent in (signal.SIGINT, signal.SIGQUIT):
        if _runs_on(pgdata, pid):
            _signal_and_wait(pgdata, pid, sent)
    if _runs_on(pgdata, pid):
        raise EmbeddedPostgresError(f"PostgreSQL still runs on {pgdata} and does not end: end process {pid}.")
    if "postgres" not in _command_of(pid):
        # PostgreSQL would refuse to start while the number is anybody's, be it that of a killed server nobody
        # has waited for yet. Its children, should some still run, it finds by their shared memory all the same.
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _signal_and_wait(pgdata: Path, pid: int, sent: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sent)
    until = time.monotonic() + _QUIT_PATIENCE
    while _runs_on(pgdata, pid) and time.monotonic() < until:
        time.sleep(_STEP)


def _postmaster(pgdata: Path) -> list[str]:
    """The lines of `postmaster.pid`: process, folder, start, port, ..., status; [] when there is none."""
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _runs_on(pgdata: Path, pid: int) -> bool:
    """Whether that process is a server on this folder; a number in a stale file may be anybody's by now."""
    if pid == 0:
        return False
    command = _command_of(pid)
    return "postgres" in command and str(pgdata) in command


def _command_of(pid: int) -> str:
    if sys.platform != "linux":
        told = subprocess.run(
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return told.stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
