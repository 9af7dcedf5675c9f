"""`wrk` as the load generator: it costs a small part of a core, and sends what our own script writes."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SCRIPTS = Path(__file__).parent / "wrk"
_MISSING = "wrk is not installed. It comes from Debian's package `wrk`: apt-get install wrk"


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement: answers with a status of 400 or more are `refused`, and count for nothing."""

    requests: int
    seconds: float
    refused: int
    socket_errors: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers that said yes, per second."""
        return (self.requests - self.refused) / self.seconds


def require_wrk() -> str:
    """The path of wrk, or the end of this program, with status 2 and a sentence that says what to do."""
    path = shutil.which("wrk")
    if path is None:
        print(_MISSING, file=sys.stderr)
        sys.exit(2)
    return path


def sign(url: str, *, connections: int, seconds: float, petition: str = "p0", spread: int = 1) -> Load:
    """Distinct people sign `petition`, or in turn `<petition>0` to `<petition><spread - 1>`."""
    people = {"PETITION": petition, "SPREAD": str(spread), "BASE": secrets.token_hex(5)}
    return _wrk(url, _SCRIPTS / "sign.lua", connections, seconds, people)


def confirm(url: str, *, connections: int, seconds: float, tokens: Path, first: int) -> Load:
    """Each request confirms with another token of a file (`bench/pending.py`), from number `first` on.

    When there are no more, requests carry none, and are refused.
    """
    chosen = {"TOKENS": str(tokens), "FIRST": str(first)}
    return _wrk(f"{url}/v1/confirmations", _SCRIPTS / "confirm.lua", connections, seconds, chosen)


def get(url: str, *, connections: int, seconds: float) -> Load:
    """One URL, again and again."""
    return _wrk(url, _SCRIPTS / "report.lua", connections, seconds, {})


def _wrk(url: str, script: Path, connections: int, seconds: float, parameters: Mapping[str, str]) -> Load:
    # wrk takes whole seconds only.
    command = [require_wrk(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout=10s"]
    done = subprocess.run(
        [*command, "-s", str(script), url],
        env=os.environ | parameters | {"REPORT": str(_SCRIPTS / "report.lua")},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith("REPORT "):
            return Load(**json.loads(line.removeprefix("REPORT ")))
    raise RuntimeError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
