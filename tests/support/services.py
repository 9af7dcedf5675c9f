"""Our programs as processes, as operators run them: started, waited for, read, ended or killed, by process id alone."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

import httpx
import psutil

from tests.support.commands import Forker, Running

ROOT = Path(__file__).parents[2]
# Seconds until a program must have done what is waited for; none needs a tenth of it on an idle machine.
PATIENCE = 120
# Whether the test that runs may start programs, which those of some tiers may not.
may_start = True
_FORKER = Forker()
_OURS = ("DATABASE_URL", "PUBLIC_URL", "RATE_LIMIT_URL", "SMTP_URL")


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def open_folder(prefix: str = "multitude-") -> Iterator[Path]:
    """A folder every user may enter: pytest's own are closed to PostgreSQL's user."""
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(**settings: str) -> dict[str, str]:
    """The environment without any setting of ours but these; programs are this checkout's."""
    prefixes = ("MULTITUDE_", "PROMETHEUS_")
    kept = {name: value for name, value in os.environ.items() if name not in _OURS and not name.startswith(prefixes)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path} | settings


def multitude(*words: str) -> list[str]:
    """The arguments that start `multitude`, from this very checkout."""
    return [sys.executable, "-m", "app.cli", *words]


def command(*words: str, patience: float = PATIENCE, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of `multitude` to its end."""
    assert may_start, "a test that starts programs is of the tier `process`"
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        running = _FORKER.begin(words, environment(**settings), [output.fileno(), errors.fileno()])
        try:
            status = running.wait(patience)
        finally:
            running.kill()
        return subprocess.CompletedProcess(list(words), status, _read(output), _read(errors))


class Server:
    """A server and all it starts, and what they print; a context manager that leaves none of them behind."""

    # Where it is started.
    cwd = ROOT

    def __init__(self, arguments: Sequence[str], *, port: int, ready: str, settings: Mapping[str, str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.arguments = arguments
        self._ready = ready
        self._settings = settings
        self._output: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the server
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | Running | None = None

    def __enter__(self) -> Self:
        self.launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._output.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The process id of the first process."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def launch(self) -> None:
        """Start it, and do not wait."""
        assert may_start, "a test that starts programs is of the tier `process`"
        self._process = self._begin()

    def _begin(self) -> "subprocess.Popen[bytes] | Running":
        return subprocess.Popen(
            self.arguments,
            cwd=ROOT,
            env=environment(**self._settings),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
        )

    def wait_until_ready(self, patience: float = PATIENCE) -> Self:
        """Wait until it answers 200."""
        until = time.monotonic() + patience
        while not self._answers():
            assert self._process is not None, "it does not run"
            assert self._process.poll() is None, f"{' '.join(self.arguments)} has ended:\n{self.errors()}"
            assert time.monotonic() < until, f"{' '.join(self.arguments)} is not ready:\n{self.errors()}"
            time.sleep(0.01)
        return self

    def start(self, patience: float = 2 * PATIENCE) -> float:
        """Start, wait until it is ready, and say how many seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_until_ready(patience)
        return time.monotonic() - began

    def _answers(self) -> bool:
        with suppress(OSError, httpx.TransportError):
            # A client costs more than all it is told, so not before somebody listens.
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            # Without certificates, which take longer to load than an answer takes to come.
            answer = httpx.get(self.url + self._ready, timeout=5, trust_env=False, verify=False)
            return answer.status_code == 200
        return False

    def output(self) -> str:
        """What it has printed."""
        return _read(self._output)

    def errors(self) -> str:
        """What it has logged."""
        return _read(self._errors)

    def end(self, seconds: float = 15, number: int = signal.SIGTERM) -> int:
        """Ask it to end, as an operator would; its exit status."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """`kill -9` of it and of everything it started, all at once; harmless to repeat."""
        if self._process is not None and self._process.poll() is None:
            kill_tree(self._process.pid)
            self._process.wait(10)

    def crash(self) -> None:
        """`kill -9` of its first process alone."""
        assert self._process is not None, "it does not run"
        self._process.kill()
        self._process.wait(10)


def _read(file: IO[str]) -> str:
    # By its own position: the server goes on writing at the end.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


class Service(Server):
    """`multitude serve` or `multitude up`, with these words and settings, on a free port unless one is named."""

    def __init__(self, *words: str, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        port = port or free_port()
        self._words = [*words, "--port", str(port)]
        super().__init__(multitude(*self._words), port=port, ready="/readyz", settings=settings or {})

    def _begin(self) -> "subprocess.Popen[bytes] | Running":
        # `up` begins as it does for a newcomer; the others need not load all code once more.
        if self._words[0] == "up":
            return super()._begin()
        files = [self._output.fileno(), self._errors.fileno()]
        return _FORKER.begin(self._words, environment(**self._settings), files)


@contextmanager
def worker(**settings: str) -> Iterator[Running]:
    """`multitude worker`, with these settings; killed with all it started when the block ends, unless it has ended."""
    assert may_start, "a test that starts programs is of the tier `process`"
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        process = _FORKER.begin(["worker"], environment(**settings), [nowhere.fileno()] * 2)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait(10)


def kill_tree(pid: int) -> None:
    """`kill -9` of a process and all its descendants; returns when they are gone."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # The first one is waited for by whoever started it; the others are init's, which may take its time with the dead.
    until = time.monotonic() + PATIENCE
    while any(_lives(process) for process in family[1:]) and time.monotonic() < until:
        time.sleep(0.002)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
