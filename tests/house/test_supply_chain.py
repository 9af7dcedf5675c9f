"""The audit passes nothing that it could not look up; the bill of materials names every pin; one base image."""

import json
import os
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from requirements.audit import pins_of

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "serve.lock"
ALL = pins_of(LOCK)
PINS = dict(ALL)


def audit(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "requirements.audit", str(LOCK), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def database(folder: Path, *affected: dict[str, Any], age: timedelta = timedelta(days=1), **more: Any) -> Path:
    """An export as OSV makes it, with one record about what is affected."""
    record = {"id": "MADE-UP-1", "modified": (datetime.now(UTC) - age).isoformat(), "affected": affected, **more}
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("MADE-UP-1.json", json.dumps(record))
    return folder / "all.zip"


def about(
    name: str, *events: dict[str, str], versions: tuple[str, ...] = (), ecosystem: str = "PyPI"
) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    return {"package": {"ecosystem": ecosystem, "name": name}, "versions": list(versions), "ranges": ranges}


@pytest.mark.parametrize(
    "affected",
    [
        about("cryptography", versions=(PINS["cryptography"],)),
        about("Cryptography", {"introduced": "0"}),
        about("cryptography", {"introduced": "0"}, {"last_affected": PINS["cryptography"]}),
        about("cryptography", {"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"}, {"fixed": "99999"}),
        about("cryptography", {"introduced": "what is no version"}),
    ],
)
def test_a_pin_that_is_affected_is_told(tmp_path: Path, affected: dict[str, Any]) -> None:
    told = audit("--database", str(database(tmp_path, affected)))
    assert (told.returncode, told.stdout.strip()) == (1, f"cryptography {PINS['cryptography']}: MADE-UP-1")


@pytest.mark.parametrize(
    "affected",
    [
        about("cryptography", {"introduced": "0"}, {"fixed": PINS["cryptography"]}),
        about("cryptography", {"introduced": "99999"}),
        about("cryptography", versions=("0.1",)),
        about("cryptography", {"introduced": "0"}, ecosystem="npm"),
        about("something-else", {"introduced": "0"}),
    ],
)
def test_a_pin_that_is_not_affected_passes(tmp_path: Path, affected: dict[str, Any]) -> None:
    told = audit("--database", str(database(tmp_path, affected)))
    assert (told.returncode, told.stdout.strip()) == (
        0,
        f"serve.lock: {len(ALL)} pins, none is known to be vulnerable.",
    )


def test_a_package_that_is_pinned_twice_is_looked_up_twice(tmp_path: Path) -> None:
    twice = {pin.name for pin in ALL if [other.name for other in ALL].count(pin.name) > 1}
    told = audit("--database", str(database(tmp_path, *(about(name, {"introduced": "0"}) for name in sorted(twice)))))
    assert (told.returncode, len(told.stdout.splitlines())) == (1, sum(pin.name in twice for pin in ALL))


def test_what_was_withdrawn_affects_nobody(tmp_path: Path) -> None:
    withdrawn = database(tmp_path, about("cryptography", {"introduced": "0"}), withdrawn="2026-01-01T00:00:00Z")
    assert audit("--database", str(withdrawn)).returncode == 0


def test_a_database_that_knows_nothing_is_no_pass(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "old").mkdir()
    old = database(tmp_path / "old", age=timedelta(days=31))
    for path in (tmp_path / "empty.zip", tmp_path / "text.zip", tmp_path / "absent.zip", old):
        told = audit("--database", str(path))
        assert (told.returncode, told.stdout) == (2, "")
        assert "serve.lock: NOT AUDITED." in told.stderr


def test_a_service_that_cannot_be_reached_is_no_pass() -> None:
    told = audit("--", "--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:1/", "--timeout", "1")
    assert (told.returncode, told.stdout) == (2, "")
    assert "serve.lock: NOT AUDITED. The vulnerability service could not be asked" in told.stderr


def test_the_bill_of_materials_names_every_pin_with_its_hashes(tmp_path: Path) -> None:
    written = tmp_path / "sbom.json"
    words = ["requirements", str(LOCK), "--pyproject", "pyproject.toml", "--output-reproducible", "-o", str(written)]
    tool = Path(sys.executable).with_name("cyclonedx-py")
    subprocess.run(
        [tool, *words], cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    bill = json.loads(written.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "multitude")
    named = {(canonicalize_name(one["name"]), one["version"]) for one in bill["components"]}
    assert named == set(ALL)
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])


def test_the_image_is_made_from_one_base_that_can_be_pinned() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert set(bases) == {"${PYTHON_IMAGE}"}
    assert re.findall(r"^ARG PYTHON_IMAGE=python:3\.11-slim(?:@sha256:[0-9a-f]{64})?$", dockerfile, re.MULTILINE)
