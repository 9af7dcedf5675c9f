"""Whatever is killed, whenever: what was acknowledged is there, and every tally equals a recount."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest

from app.embedded_postgres.server import EmbeddedPostgres
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.people.fields.emails import canonical
from tests.support.crowd import Crowd
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.services import PATIENCE, Service, command, free_port, kill_tree, multitude, open_folder
from tests.support.tallies import exact_counts

pytestmark = pytest.mark.process


SECRET = "a-secret-that-is-only-for-tests-0002"
SLUGS = ["one", "two", "three"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def postgres(folder: Path, used_before: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this test's own, to be killed, with three open petitions."""

    async def plant_all() -> None:
        database = Database(server.url)
        for slug in SLUGS:
            await insert_petition(database, slug)
        await database.close()

    subprocess.run(["cp", "-a", used_before, folder / "data"], check=True)
    with EmbeddedPostgres.start(folder / "data") as server:
        asyncio.run(plant_all())
        yield server


def serve(postgres: EmbeddedPostgres, port: int, workers: int = 2) -> Service:
    settings = {"DATABASE_URL": postgres.url, "MULTITUDE_SECRET_KEYS": SECRET}
    return Service("serve", "--workers", str(workers), port=port, settings=settings)


def verify(url: str, crowd: Crowd, secret: str = SECRET, digest_key: str | None = None) -> None:
    """Everybody who was told so has signed, and all tallies agree with a recount."""

    async def look() -> dict[str, set[bytes]]:
        database = Database(url)
        try:
            await exact_counts(database)
            rows = await run(
                database,
                "SELECT p.slug, s.signer FROM signatures s JOIN petitions p ON p.id = s.petition_id"
                " WHERE s.state = 'confirmed'",
            )
        finally:
            await database.close()
        found: dict[str, set[bytes]] = {slug: set() for slug in crowd.acknowledged}
        for slug, signer in rows:
            found[slug].add(signer)
        return found

    found, ring = asyncio.run(look()), KeyRing.parse(secret, digest_key)
    for slug, people in crowd.acknowledged.items():
        missing = {number for number in people if ring.digest(canonical(person(number)["email"])) not in found[slug]}
        assert not missing


def assert_agrees(url: str) -> None:
    told = command("tally", "verify", DATABASE_URL=url)
    assert (told.returncode, "every tally agrees" in " ".join(told.stdout.split())) == (0, True), told


def test_what_was_acknowledged_survives_every_kill(postgres: EmbeddedPostgres) -> None:
    port = free_port()
    with serve(postgres, port) as first, Crowd(port, SLUGS) as crowd:
        first.wait_until_ready()
        crowd.wait_for(500)
        first.kill()
        with serve(postgres, port) as second:
            second.wait_until_ready()
            crowd.wait_for(500)
            kill_tree(postgres.pid)
            postgres.restart()
            # The API was not restarted: it finds its way back by itself.
            crowd.wait_for(500)
            kill_tree(postgres.pid)
            second.kill()
            assert "example.org" not in second.errors()
        postgres.restart()
        with serve(postgres, port) as third:
            third.wait_until_ready()
            crowd.wait_for(500)
            assert third.end() == 0
    assert crowd.unanswered
    assert set(crowd.answers) <= {201, 503}
    verify(postgres.url, crowd)
    assert_agrees(postgres.url)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_settles_everything_and_ends_the_streams(postgres: EmbeddedPostgres, workers: int) -> None:
    with serve(postgres, free_port(), workers) as service:
        service.wait_until_ready()
        with Crowd(service.port, SLUGS) as crowd, Watcher(f"{service.url}/v1/petitions/one/stream") as watcher:
            crowd.wait_for(300)
            assert watcher.heard.wait(PATIENCE)
            assert service.end(15) == 0
            assert watcher.ended.wait(PATIENCE)
        # Idle connections are closed as the service ends; whoever asks on one at this moment is not answered.
        assert set(crowd.answers) <= {201, 503}
        assert "Traceback" not in service.errors()
    verify(postgres.url, crowd)
    assert_agrees(postgres.url)


class Watcher:
    """Somebody who follows a stream, in a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = threading.Thread(target=self._watch, name="watcher")
        self.heard = threading.Event()
        self.ended = threading.Event()
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)

    def _watch(self) -> None:
        with httpx.stream("GET", self._url, timeout=30) as answer:
            for line in answer.iter_lines():
                self.lines.append(line)
                self.heard.set()
        self.ended.set()


def test_up_starts_again_on_its_data_however_it_ended(folder: Path) -> None:
    data = folder / "data"
    words = ("up", "--data-dir", str(data))
    with Service(*words) as first, Crowd(first.port, ["repeal-the-laws"]) as crowd:
        first.wait_until_ready()
        assert "owner key" in first.output()
        crowd.wait_for(200)
        second = subprocess.run(
            multitude(*words, "--port", str(free_port())),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert second.returncode == 1
        assert second.stderr.count("\n") <= 3
        assert "already in use by a running service" in " ".join(second.stderr.split())
        assert not second.stdout
        crowd.wait_for(100)
        left = psutil.Process(first.pid).children(recursive=True)
        first.crash()
        with Service(*words, port=first.port) as again:
            again.wait_until_ready()
            assert "owner key" not in again.output()
            assert not [process for process in left if process.is_running() and process.status() != "zombie"]
            crowd.wait_for(200)
            assert "example.org" not in again.errors()
            assert again.end(number=signal.SIGINT) == 0
    assert not (data / "postgres" / "postmaster.pid").exists()
    with Service(*words) as service:
        service.wait_until_ready()
        environment = dict(line.split("=", 1) for line in (data / "service.env").read_text().splitlines())
        keys = environment["MULTITUDE_SECRET_KEYS"], environment["MULTITUDE_DIGEST_KEY"]
        verify(environment["DATABASE_URL"], crowd, *keys)
        told = command("tally", "verify", "--data-dir", str(data))
        assert told.returncode == 0, told
        assert service.end() == 0


def test_up_recovers_when_its_database_or_its_worker_is_killed(folder: Path) -> None:
    with Service("up", "--data-dir", str(folder / "data")) as service:
        service.wait_until_ready()
        with Crowd(service.port, ["repeal-the-laws"], connections=8) as crowd:
            crowd.wait_for(100)
            for process in psutil.Process(service.pid).children():
                os.kill(process.pid, signal.SIGKILL)
            crowd.wait_for(100)
        told = command("tally", "verify", "--data-dir", str(folder / "data"))
        assert told.returncode == 0, told
        assert service.end() == 0
