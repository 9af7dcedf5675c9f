"""What is committed holds on every machine: no lock says where to download from, no file names its author's machine."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
_PIN = re.compile(
    r"^[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^ ]+( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", re.MULTILINE
)


def _told(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """What is, or is about to be, committed: text by path."""
    listed = _told("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    found: dict[str, str] = {}
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
            found[name] = path.read_text(encoding="utf-8")
    assert "pyproject.toml" in found
    return found


def test_there_are_locks() -> None:
    assert [lock.name for lock in LOCKS] == ["dev.lock", "run.lock", "serve.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_by_hash_and_names_no_place(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert _PIN.sub("", text) == ""


def test_no_file_names_this_machine(texts: dict[str, str]) -> None:
    places = {ROOT, Path.home(), Path(sys.prefix), Path(sys.base_prefix)}
    # What every machine has (`/usr`) or an image is made of (`/app`) says nothing about this one.
    own = {f"{place}/" for place in places if len(place.parts) > 2} | ({str(ROOT)} - {"/app", "/src"})
    assert [(name, place) for name, text in texts.items() for place in own if place in text] == []


def test_no_file_names_a_package_registry(texts: dict[str, str]) -> None:
    from pip._internal.models.index import PyPI  # the one place that is sure to know

    configured = re.findall(r"https?://[^\s'\"]+", _told(sys.executable, "-m", "pip", "config", "list"))
    hosts = {PyPI.netloc, PyPI.file_storage_domain, *(urlsplit(url).hostname or "" for url in configured)}
    hosts -= {"", "localhost", "127.0.0.1"}
    assert [(name, host) for name, text in texts.items() for host in hosts if host in text] == []


def test_every_text_ends_with_a_line_and_has_no_trailing_blanks(texts: dict[str, str]) -> None:
    untidy = [
        name
        for name, text in texts.items()
        if text and (not text.endswith("\n") or re.search(r"[ \t]+$", text, re.MULTILINE)) and not name.endswith(".csv")
    ]
    assert untidy == []
