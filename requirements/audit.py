"""Look up every pin of the locks among known vulnerabilities (`make audit`).

    python -m requirements.audit [--database all.zip] [LOCK ...] [-- arguments of pip-audit]

With a service by `pip-audit`, for the Python that runs it; or without a network in OSV's export of its PyPI database
(one JSON record a file in a zip, as OSV exports them), which somebody has brought. Exit 0: all were
looked up, none is affected. 1: some are. 2: not every pin could be looked up, so nothing is known. Nothing else is a
pass.
"""

import argparse
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_FOLDER = Path(__file__).parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^ ;\\]+)", re.MULTILINE)
# An older database does not know what has been found since.
_OLDEST = timedelta(days=30)
_AFFECTED, _UNKNOWN = 1, 2


class Pin(NamedTuple):
    """A package, its name in the one form, and the version that a lock asks for."""

    name: str
    version: str


class UnknownError(Exception):
    """Nothing can be said; the message says why."""


def pins_of(lock: Path) -> list[Pin]:
    """Every pin of a lock, whatever platform it is for."""
    return [Pin(canonicalize_name(name), version) for name, version in _PIN.findall(lock.read_text(encoding="utf-8"))]


@cache
def records_in(database: Path) -> list[dict[str, Any]]:
    """The records of an OSV export; UnknownError when there are none, or none of late. Read once."""
    try:
        with zipfile.ZipFile(database) as archive:
            records = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
        newest = max(datetime.fromisoformat(record["modified"]) for record in records)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise UnknownError(f"{database} is no export of OSV's database ({type(error).__name__}).") from None
    if newest < datetime.now(UTC) - _OLDEST:
        raise UnknownError(f"{database} is too old: its newest record is of {newest:%Y-%m-%d}. Bring a newer one.")
    return [record for record in records if "withdrawn" not in record]


def affected_by(records: Sequence[dict[str, Any]], pins: Sequence[Pin]) -> Iterator[str]:
    """A line for each pin and record that affects it."""
    wanted: dict[str, list[str]] = {}
    for pin in pins:
        wanted.setdefault(pin.name, []).append(pin.version)
    for record in records:
        for one in record.get("affected", []):
            package = one.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            for version in wanted.get(name, []) if package.get("ecosystem") == "PyPI" else []:
                if _is_affected(version, one):
                    yield f"{name} {version}: {record['id']} {record.get('summary', '')}".rstrip()


def _is_affected(version: str, one: dict[str, Any]) -> bool:
    if version in one.get("versions", []):
        return True
    ranges = [found["events"] for found in one.get("ranges", []) if found.get("type") == "ECOSYSTEM"]
    return any(_is_in(Version(version), events) for events in ranges)


def _is_in(version: Version, events: Sequence[dict[str, str]]) -> bool:
    """Whether a version is in a range (OSV schema, `affected[].ranges[].events`); true if that cannot be read."""
    try:
        bounds = sorted((Version(text), kind) for event in events for kind, text in event.items())
    except InvalidVersion:
        return True
    inside = False
    for bound, kind in bounds:
        if kind == "introduced" and version >= bound:
            inside = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            inside = False
    return inside


def ask_service(lock: Path, arguments: Sequence[str]) -> list[str]:
    """A line for each vulnerability that `pip-audit` finds; UnknownError unless it has looked up every pin."""
    words = ["-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json"]
    told = subprocess.run(
        [sys.executable, *words, *arguments, "--requirement", str(lock)], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(told.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (told.stderr.strip().splitlines() or ["it said nothing"])[-1].partition(":")[0]
        raise UnknownError(f"The vulnerability service could not be asked ({last}).") from None
    if skipped := [one["name"] for one in found if "skip_reason" in one]:
        raise UnknownError(f"The vulnerability service does not know {len(skipped)} of {len(found)} packages.")
    return [f"{one['name']} {one['version']}: {vuln['id']}" for one in found for vuln in one["vulns"]]


def main() -> int:
    """Audit the locks that are named, else all; the exit status."""
    words = [*sys.argv[1:], "--"]
    own, others = words[: words.index("--")], words[words.index("--") + 1 : -1]
    parser = argparse.ArgumentParser(description="Audit the locks.")
    parser.add_argument("--database", type=Path)
    parser.add_argument("locks", nargs="*", type=Path, default=sorted(_FOLDER.glob("*.lock")))
    given = parser.parse_args(own)
    return max(_audit(lock, given.database, others) for lock in given.locks)


def _audit(lock: Path, database: Path | None, arguments: Sequence[str]) -> int:
    pins = pins_of(lock)
    try:
        found = sorted(affected_by(records_in(database), pins)) if database else ask_service(lock, arguments)
    except UnknownError as error:
        print(f"{lock.name}: NOT AUDITED. {error}", file=sys.stderr)
        print("Without a network: make audit DATABASE=all.zip, with OSV's export for PyPI.", file=sys.stderr)
        return _UNKNOWN
    print("\n".join(found) if found else f"{lock.name}: {len(pins)} pins, none is known to be vulnerable.")
    return _AFFECTED if found else 0


if __name__ == "__main__":
    sys.exit(main())
