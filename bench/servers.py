"""Servers as subprocesses: started, waited for, looked into, stopped or killed, by process id alone."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parent.parent
_OURS = ("DATABASE_URL", "PUBLIC_URL", "RATE_LIMIT_URL", "SMTP_URL")
MEBIBYTE = 1024 * 1024


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**settings: str) -> dict[str, str]:
    """The environment of a server: ours without its own settings, plus those named here."""
    kept = {k: v for k, v in os.environ.items() if k not in _OURS and not k.startswith("MULTITUDE_")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path} | settings


def command(*arguments: str) -> list[str]:
    """`multitude`, from this very checkout."""
    return [sys.executable, "-m", "app.cli", *arguments]


class Server:
    """One server and its children, in a process group of their own."""

    def __init__(
        self, arguments: Sequence[str], *, port: int, ready: str, log: Path, settings: Mapping[str, str]
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._arguments = arguments
        self._ready = ready
        self._log = log
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, patience: float = 120) -> float:
        """Start, wait until `ready` answers 200, and say how many seconds that took."""
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._log.parent,
                env=environment(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > patience:
                self.kill()
                raise RuntimeError(f"{' '.join(self._arguments)} did not start:\n{self._tail()}")
            time.sleep(0.01)
        return time.monotonic() - began

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            # Without certificates, which take longer to load than an answer takes to come.
            answer = httpx.get(self.url + self._ready, timeout=5, trust_env=False, verify=False)
            return answer.status_code == 200
        return False

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def stop(self, patience: float = 60) -> None:
        """Ask it to end, and wait; an error if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{' '.join(self._arguments)} did not stop:\n{self._tail()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for the whole group, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def largest_rss(self) -> float:
        """Resident memory of the largest of its processes, in MiB."""
        assert self._process is not None
        return max(resident(self._process.pid), default=0.0)


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
    """The server, started; stopped when the block ends."""
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()


def compared(app: str, folder: Path, *, ready: str, workers: int = 1, **settings: str) -> Server:
    """One of `bench.apps` under uvicorn, with the settings `multitude serve` gives it."""
    port = free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", f"bench.apps.{app}:app", "--host", "127.0.0.1"]
    quiet = ["--no-access-log", "--no-server-header", "--no-proxy-headers", "--log-level", "warning"]
    fast = ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--backlog", "4096"]
    size = ["--workers", str(workers), "--port", str(port)]
    return Server(
        [*uvicorn, *quiet, *fast, *size], port=port, ready=ready, log=folder / f"{app}.log", settings=settings
    )


def ours(folder: Path, *, workers: int = 1, **settings: str) -> Server:
    """`multitude serve`."""
    port = free_port()
    arguments = command("serve", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers))
    # What a killed service leaves in its temporary folder goes when ours does.
    settings = settings | {"TMPDIR": str(folder)}
    return Server(arguments, port=port, ready="/readyz", log=folder / "multitude.log", settings=settings)
