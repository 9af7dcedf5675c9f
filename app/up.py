"""`multitude up`: the whole service from one command, with nothing but Python.

It starts PostgreSQL (unless DATABASE_URL names one), brings the schema up to date, makes keys, starts the worker, and
serves the API in this process. What it made is written to `service.env` in the data folder; every other command reads
that file for what the environment does not say.
"""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn
from sqlalchemy import func, select

from app import demo
from app.embedded_postgres.cluster import make_data_dir
from app.embedded_postgres.server import EmbeddedPostgres
from app.kit.database.session import Database
from app.kit.logs import log
from app.kit.problems import OperatorError
from app.kit.secret_files import SUFFIX
from app.kit.text.urls import base_url
from app.main import create_app
from app.organizations import queries as organizations
from app.organizations.audit.chain import Act, append
from app.organizations.models import ApiKey
from app.organizations.principals import OPERATOR
from app.organizations.service import create_key
from app.serving.server import AddressTakenError, export_settings, log_start, options, show_metrics
from app.settings import ENV_FILE, Settings

# Seconds.
_WORKER_STOP_TIMEOUT = 10
_CHECK_EVERY = 0.5
_KEYS = ("MULTITUDE_SECRET_KEYS", "MULTITUDE_DIGEST_KEY", "MULTITUDE_TOKEN_KEYS")


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What is told once, after the very first start."""

    owner_key: str
    petition: str


def prepare_folder(data_dir: Path) -> None:
    """Make the data folder, and its keys on the first start: one for what is sealed, for digests and for tokens."""
    make_data_dir(data_dir)
    if not (data_dir / ENV_FILE).exists() and not _is_given("MULTITUDE_SECRET_KEYS"):
        _write(data_dir, {name: secrets.token_urlsafe(32) for name in _KEYS if not _is_given(name)})


def _is_given(name: str) -> bool:
    return name in os.environ or f"{name}{SUFFIX}" in os.environ


def _read(data_dir: Path) -> dict[str, str]:
    file = data_dir / ENV_FILE
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _write(data_dir: Path, values: dict[str, str]) -> None:
    """Write whole or not at all: the file holds the key without which nothing stored can be read."""
    fresh = data_dir / f"{ENV_FILE}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(data_dir / ENV_FILE)


@contextmanager
def database_of(data_dir: Path) -> Iterator[EmbeddedPostgres | None]:
    """The database: the one DATABASE_URL names, or our own PostgreSQL for as long as the block lasts."""
    if os.environ.get("DATABASE_URL") or os.environ.get(f"DATABASE_URL{SUFFIX}"):
        yield None
        return
    with EmbeddedPostgres.start(data_dir) as postgres:
        _write(data_dir, {**_read(data_dir), "DATABASE_URL": postgres.url})
        yield postgres


def with_defaults(settings: Settings, data_dir: Path, url: str) -> Settings:
    """The settings, with what only this command knows where they are silent: address, folder for mails, loopback."""
    more: dict[str, object] = {}
    if "public_url" not in settings.model_fields_set:
        more["public_url"] = _public_url_of(url)
    if "webhook_loopback" not in settings.model_fields_set:
        more["webhook_loopback"] = True
    if settings.smtp_url is None and settings.outbox_dir is None:
        more["outbox_dir"] = (data_dir / "outbox").resolve()
    return settings.model_copy(update=more)


def _public_url_of(url: str) -> str:
    try:
        return base_url(url)
    except ValueError:
        raise OperatorError("No link can be made of --host: set PUBLIC_URL to the address people know.") from None


class _Worker:
    """The worker, in a process of its own so that its work never delays a signature."""

    def __init__(self, data_dir: Path) -> None:
        # Its own: in the current folder there may be the keys and the mail server of another service.
        self._data_dir = data_dir.resolve()
        self.restart()

    def restart(self) -> None:
        own = ["--parent", str(os.getpid()), "--data-dir", str(self._data_dir)]
        command = [sys.executable, "-m", "app.cli", "worker", *own]
        self.process = subprocess.Popen(command, start_new_session=True)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_WORKER_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def _first_start(settings: Settings) -> FirstStart | None:
    database = Database(settings.database_url.get_secret_value(), pool_size=1, name="up")
    try:
        async with database.transaction() as session:
            if await session.scalar(select(func.count()).select_from(ApiKey)):
                return None
            movement = await organizations.find(session, "movement")
            assert movement is not None
            label, longest = "made by the first start", settings.key_longest_life
            made, key = await create_key(session, movement, "owner", label, longest=longest)
            started = FirstStart(key, await demo.seed(session))
            await append(session, OPERATOR, Act("api_key.create", "api_key", str(made.id)))
            return started
    finally:
        await database.close()


def make_ready(settings: Settings) -> FirstStart | None:
    """On an empty database make the owner's key and something to look at."""
    return asyncio.run(_first_start(settings))


def run(
    settings: Settings,
    host: str,
    port: int,
    data_dir: Path,
    postgres: EmbeddedPostgres | None,
    announce: Callable[[], None],
) -> None:
    """Serve the API in this process, with the worker beside it; `announce` when it answers."""
    export_settings(settings)
    log_start(settings, host, port)
    show_metrics(settings)
    worker = _Worker(data_dir)
    companions: list[_Companion] = [worker] if postgres is None else [postgres, worker]
    server = _Supervisor(uvicorn.Config(create_app(settings), **options(settings, host, port)), companions, announce)
    try:
        server.run()
    except SystemExit:
        # uvicorn's way to say that it could not listen; the reason is in its log line.
        raise AddressTakenError(f"Cannot listen at {host}:{port}. Try another --port.") from None
    finally:
        worker.stop()


class _Companion(Protocol):
    """A process beside the API that is started again when it ends too early."""

    process: "subprocess.Popen[bytes]"

    def restart(self) -> None: ...


class _Supervisor(uvicorn.Server):
    """The API's server, which says when it has begun to answer and keeps its companions running."""

    def __init__(self, config: uvicorn.Config, companions: Sequence[_Companion], announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._companions = companions
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()
            self._watch = asyncio.create_task(self._supervise(), name="supervise")

    async def _supervise(self) -> None:
        # Restarted from this thread on purpose: Linux ends the companions with the thread that started them.
        while not self.should_exit:
            for companion in self._companions:
                if companion.process.poll() is not None:
                    log.warning(
                        "companion ended, starting it again",
                        companion=_name_of(companion),
                        exit_status=companion.process.returncode,
                    )
                    try:
                        companion.restart()
                    except (OperatorError, OSError) as error:
                        log.error("companion did not start", companion=_name_of(companion), reason=str(error))
            await asyncio.sleep(_CHECK_EVERY)


def _name_of(companion: _Companion) -> str:
    return "worker" if isinstance(companion, _Worker) else "postgresql"
