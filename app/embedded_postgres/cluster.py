"""The database cluster of the embedded server: its files, their owner, and `initdb`.

A cluster is made in `postgres.new` and renamed when complete, so that a kill on the way leaves nothing half-made under
its name.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.embedded_postgres.binaries import (
    SHARED_FOLDER,
    Account,
    Binaries,
    EmbeddedPostgresError,
    account_for,
    find_binaries,
    make_folder,
)

DATABASE = "multitude"

# Bytes. The system's limit is 107, on some systems 103, and the socket's name takes up to 15 of them.
_LONGEST_SOCKET_FOLDER = 88


@dataclass(frozen=True)
class Cluster:
    """The cluster of one data folder: where it is, and by which programs and user it is run."""

    data_dir: Path
    pgdata: Path
    account: Account
    binaries: Binaries

    @property
    def home(self) -> Path:
        """The folder that holds the database: the data folder, or its substitute in `SHARED_FOLDER`."""
        return self.pgdata.parent

    @property
    def log(self) -> Path:
        return self.data_dir / "postgres.log"

    @property
    def password(self) -> Path:
        return self.data_dir / "postgres.password"


def make_data_dir(data_dir: Path) -> None:
    """Create a missing data folder, closed to others. Root's can be passed through, but not listed."""
    make_folder(data_dir, 0o711 if os.geteuid() == 0 else 0o700)


def find_cluster(data_dir: Path) -> Cluster:
    """The cluster of this data folder, made or not; EmbeddedPostgresError when it cannot be used."""
    place = data_dir / "postgres"
    account = account_for(place)
    binaries = find_binaries(account)
    _refuse_other_major(place, binaries)
    return Cluster(data_dir, _pgdata(place, account), account, binaries)


def _refuse_other_major(pgdata: Path, binaries: Binaries) -> None:
    made_by = _major_of(pgdata)
    if made_by not in {None, str(binaries.major)}:
        raise EmbeddedPostgresError(
            f"{pgdata} was made by PostgreSQL {made_by}, and this is PostgreSQL {binaries.major}: dump it"
            f" with PostgreSQL {made_by} and restore the dump into a new data folder, or set DATABASE_URL to"
            f" a running PostgreSQL {made_by}."
        )


def _major_of(pgdata: Path) -> str | None:
    try:
        return (pgdata / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def _pgdata(place: Path, account: Account) -> Path:
    if place.is_symlink():
        return _linked(place)
    if account.reaches(place.parent):
        return _owned(place, account)
    if place.exists():
        raise EmbeddedPostgresError(
            f"PostgreSQL runs as the user {account.name}, who cannot reach {place}: let that user enter the"
            " folders above it."
        )
    return _shared(place)


def _linked(place: Path) -> Path:
    pgdata = place.resolve()
    if not pgdata.parent.is_dir():
        raise EmbeddedPostgresError(
            f"The database was in {pgdata}, which is gone: restore it, or remove {place} to begin anew."
        )
    return pgdata


def _owned(pgdata: Path, account: Account) -> Path:
    uid = os.geteuid() if account.uid is None else account.uid
    if pgdata.exists() and _major_of(pgdata) and pgdata.stat().st_uid != uid:
        raise EmbeddedPostgresError(
            f"{pgdata} does not belong to the user {account.name}, who runs PostgreSQL: give it to that user"
            " (chown -R)."
        )
    return pgdata


def _shared(place: Path) -> Path:
    """The place in `SHARED_FOLDER` for a data folder that PostgreSQL's user cannot reach, linked from that folder."""
    name = hashlib.sha256(str(place.parent).encode()).hexdigest()[:12]
    pgdata = SHARED_FOLDER / name / "postgres"
    if pgdata.exists():
        raise EmbeddedPostgresError(
            f"{pgdata} holds the database of a data folder that was at {place.parent}: link it back"
            f" (ln -s {pgdata} {place}), or remove {pgdata.parent} to begin anew."
        )
    make_folder(SHARED_FOLDER, 0o755)
    make_folder(pgdata.parent, 0o711)
    place.symlink_to(pgdata)
    return pgdata


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A file lock, held while the service runs; the system frees it however the service ends."""
    with os.fdopen(os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedPostgresError(
                f"{folder} is already in use by a running service (process {file.read().strip()})."
            ) from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def socket_folder(cluster: Cluster) -> Iterator[Path]:
    """An empty folder for the socket, which only PostgreSQL's user may enter; a killed server's socket is removed."""
    folder = cluster.home / "socket"
    if _fit_for_a_socket(folder):
        if folder.exists():
            shutil.rmtree(folder)
        make_folder(folder, 0o700)
        cluster.account.own(folder)
        yield folder
        return
    # Not TMPDIR: its path may be as long, or closed to PostgreSQL's user.
    folder = Path(tempfile.mkdtemp(prefix="multitude-", dir="/tmp"))
    try:
        cluster.account.own(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fit_for_a_socket(folder: Path) -> bool:
    """Whether the path is short enough for the system, and has no character with a meaning in PostgreSQL's settings."""
    path = str(folder)
    return len(path) <= _LONGEST_SOCKET_FOLDER and re.fullmatch(r"[\w/.~-]+", path, re.ASCII) is not None


def ensure_made(cluster: Cluster, socket_folder: Path) -> None:
    """Make the cluster and its database unless they exist; what a killed start left behind is replaced."""
    if _major_of(cluster.pgdata) is not None:
        return
    if (cluster.pgdata / "global" / "pg_control").exists():
        raise EmbeddedPostgresError(
            f"{cluster.pgdata} holds a database without its file PG_VERSION: restore that file, or move the"
            " folder away to begin anew."
        )
    unfinished = cluster.pgdata.with_name("postgres.new")
    for folder in (unfinished, cluster.pgdata):
        if folder.exists():
            shutil.rmtree(folder)
    _initialise(cluster, unfinished, socket_folder)
    unfinished.rename(cluster.pgdata)
    _sync(cluster.home)


def _initialise(cluster: Cluster, unfinished: Path, socket_folder: Path) -> None:
    make_folder(unfinished, 0o700)
    cluster.account.own(unfinished)
    password = secrets.token_urlsafe(24)
    _write_private(cluster.password, password)
    # initdb reads the password as its own user, who may not pass the data folder.
    with tempfile.NamedTemporaryFile("w", dir=socket_folder) as file:
        file.write(password)
        file.flush()
        cluster.account.own(Path(file.name))
        _initdb(cluster, unfinished, file.name)
    # A single-user server for one statement: so the database exists before the cluster gets its name.
    single = ("postgres", "--single", "-D", str(unfinished), "-c", "exit_on_error=on", "postgres")
    _run(cluster, *single, stdin=f"CREATE DATABASE {DATABASE};\n")


def _initdb(cluster: Cluster, unfinished: Path, password_file: str) -> None:
    encoding = ("--encoding=UTF8", "--locale=C", "--data-checksums")
    access = ("--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256")
    _run(cluster, "initdb", "-D", str(unfinished), *encoding, *access, f"--pwfile={password_file}")


def _run(cluster: Cluster, program: str, *arguments: str, stdin: str = "") -> None:
    with open_log(cluster) as log:
        done = subprocess.run(
            [str(cluster.binaries.folder / program), *arguments],
            input=stdin.encode(),
            stdout=log,
            stderr=log,
            check=False,
            **cluster.account.process_options,
        )
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"The database could not be made: the last lines of {cluster.log} say why.")


def open_log(cluster: Cluster) -> IO[bytes]:
    """The log, opened for appending. Only our user can open it; PostgreSQL inherits it open."""
    return os.fdopen(os.open(cluster.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _sync(folder: Path) -> None:
    """Flush this folder to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
