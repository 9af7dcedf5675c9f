"""The service as its operators run it: real processes, real signals, and a crowd that keeps signing."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

import httpx
import psutil
from movement import person

ROOT = Path(__file__).parents[1]
PATIENCE = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder every user may enter: pytest's own are closed to PostgreSQL's user."""
    folder = Path(tempfile.mkdtemp(prefix="multitude-")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(**more: str) -> dict[str, str]:
    """The environment without any setting of ours but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MULTITUDE_", "PROMETHEUS_"))}
    kept.pop("DATABASE_URL", None)
    return kept | more


def command(*words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Service:
    """One running `multitude serve` or `multitude up`."""

    def __init__(self, *words: str, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the service
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *words, "--port", str(self.port)],
            cwd=ROOT,
            env=environment(**(settings or {})),
            stdout=self._output,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._output.close()
        self._errors.close()

    def wait_until_ready(self) -> Self:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert self.process.poll() is None, self.errors()
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return self
            time.sleep(0.02)
        raise AssertionError(self.errors())

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def end(self, seconds: float = 15, number: int = signal.SIGTERM) -> int:
        """Ask it to end, as an operator would; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """`kill -9` of it and of everything it started, all at once."""
        kill_tree(self.process.pid)
        self.process.wait(10)

    def crash(self) -> None:
        """`kill -9` of its first process alone."""
        self.process.kill()
        self.process.wait(10)


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
    # The first one is waited for by whoever started it.
    psutil.wait_procs(family[1:], timeout=10)


class Crowd:
    """People who sign, each connection one after the other, in a thread of its own; as a context manager."""

    def __init__(self, port: int, slugs: list[str], connections: int = 32) -> None:
        self._port = port
        self._slugs = slugs
        self._connections = connections
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._sign()), name="crowd")
        self._next = 0
        # What was answered 201, by petition: numbers of people.
        self.acknowledged: dict[str, set[int]] = {slug: set() for slug in slugs}
        self.answers: Counter[int] = Counter()
        self.unanswered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait_for(self, more: int) -> None:
        """Wait until so many more people have been told that they have signed."""
        until, wanted = time.monotonic() + PATIENCE, self.answers[201] + more
        while self.answers[201] < wanted:
            assert time.monotonic() < until, self.answers
            time.sleep(0.01)

    async def _sign(self) -> None:
        await asyncio.gather(*(self._keep_signing() for _ in range(self._connections)))

    async def _keep_signing(self) -> None:
        while not self._leaving.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            try:
                while not self._leaving.is_set():
                    await self._sign_once(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                self.unanswered += 1
            finally:
                writer.close()

    async def _sign_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._next += 1
        # Every tenth has signed before.
        number = self._next // 2 if self._next % 10 == 0 else self._next
        slug = self._slugs[number % len(self._slugs)]
        writer.write(_request(slug, number))
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        status = int(head[9:12])
        self.answers[status] += 1
        if status == 201:
            self.acknowledged[slug].add(number)
        else:
            await asyncio.sleep(0.02)


def _request(slug: str, number: int) -> bytes:
    body = json.dumps(person(number, ("UG", "FR", "DE")[number % 3], region=f"R{number % 4}")).encode()
    head = (
        f"POST /v1/petitions/{slug}/signatures HTTP/1.1\r\nhost: multitude.test\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
