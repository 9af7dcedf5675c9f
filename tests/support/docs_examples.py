"""Pages as a reader uses them: examples are cut out and run as they stand, in a folder and a shell of the reader's own.

An example is a fenced block whose first line is a comment with its name. What a reader fills in, lines of the form
`export NAME=...`, gives way to what the test knows.
"""

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.services import PATIENCE
from tests.support.types import Json

Environment = dict[str, str]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:#|//) ([a-z_.-]+)\n")
_FILLED_IN = re.compile(r"^export (\w+)=.*\n", re.MULTILINE)


def blocks_of(page: Path) -> dict[str, str]:
    """The examples of a page by the name in their first line."""
    named = [(_NAME.match(code), code) for _, code in _FENCE.findall(page.read_text(encoding="utf-8"))]
    found = {match[1]: code for match, code in named if match}
    assert len(found) == sum(match is not None for match, _ in named), "two examples have one name"
    return found


def unnamed_programs(page: Path) -> list[str]:
    """What a page shows of shell, Python and JavaScript that has no name."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for kind, code in found if kind in {"sh", "python", "js"} and not _NAME.match(code)]


def json_examples(page: Path) -> list[Json]:
    """What a page shows as JSON."""
    return [json.loads(code) for kind, code in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == "json"]


@dataclass
class Reader:
    """Somebody with a shell in an empty folder, who does what the page says."""

    page: Path
    folder: Path
    environment: Environment = field(default_factory=dict)

    def run(self, name: str, *words: str, **more: str) -> str:
        """Run an example; what it printed. It must end well, and curl is told to say when it was refused."""
        self._write(name, more)
        told = subprocess.run(
            [*_command(name), *words],
            cwd=self.folder,
            env=self._environment(**more),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def told(self, name: str, *words: str, **more: str) -> Json:
        """The same, of an example that prints one JSON object."""
        answer: Json = json.loads(self.run(name, *words, **more))
        return answer

    @contextmanager
    def running(self, name: str, **more: str) -> Iterator["Running"]:
        """An example that goes on until the block ends."""
        self._write(name, more)
        running = Running(_command(name), self.folder, self._environment(**more))
        try:
            yield running
        finally:
            running.end()

    def _write(self, name: str, more: Environment) -> None:
        code, known = blocks_of(self.page)[name], self.environment | more
        if _is_shell(name):
            code = _FILLED_IN.sub(lambda line: "" if line[1] in known else line[0], code)
        (self.folder / name).write_text(code)

    def _environment(self, **more: str) -> Environment:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        return {**kept, "HOME": str(self.folder), **self.environment, **more}


def _is_shell(name: str) -> bool:
    return not name.endswith((".py", ".mjs"))


def _command(name: str) -> list[str]:
    if name.endswith(".py"):
        return [sys.executable, name]
    return ["node", name] if name.endswith(".mjs") else ["bash", "-eu", "-o", "pipefail", name]


class Running:
    """A program, and what it prints, line by line, with patience."""

    def __init__(self, command: list[str], folder: Path, environment: Environment) -> None:
        self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        self._waiting: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, name="lines")
        self._thread.start()
        self.passed_over: list[str] = []

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._waiting.put(line.rstrip("\n"))

    @property
    def goes_on(self) -> bool:
        return self._process.poll() is None

    def find(self, beginning: str) -> str:
        """The next line that begins so."""
        while True:
            try:
                line = self._waiting.get(timeout=PATIENCE)
            except queue.Empty:
                raise AssertionError(self.passed_over) from None
            if line.startswith(beginning):
                return line
            self.passed_over.append(line)

    def end(self) -> None:
        """End it, and read what is left."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._thread.join(PATIENCE)
