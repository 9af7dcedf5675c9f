"""A PostgreSQL of the bench's own, in a temporary folder, with fsync on as it comes."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from sqlalchemy.engine import make_url

from app.embedded_postgres.server import EmbeddedPostgres


@dataclass(frozen=True, slots=True)
class Database:
    """One database, asked in plain SQL, over a new connection each time."""

    url: str

    def run(self, *statements: str) -> None:
        """Statements without an answer, each in a transaction of its own."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """The rows of one query."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            rows = await connection.fetch(query, *arguments)
            await connection.close()
            return rows

        return asyncio.run(ask())

    def value(self, query: str, *arguments: object) -> Any:
        """The first column of a query's only row."""
        return self.rows(query, *arguments)[0][0]


class Cluster:
    """A running server and its databases."""

    def __init__(self, data_dir: Path) -> None:
        self._server = EmbeddedPostgres.start(data_dir)

    def database(self, name: str) -> Database:
        """The database of this name, which must exist."""
        return Database(make_url(self._server.url).set(database=name).render_as_string(hide_password=False))

    @contextlib.contextmanager
    def fresh(self, name: str, template: str = "template1") -> Iterator[Database]:
        """A new database, dropped when the block ends."""
        postgres = self.database("postgres")
        postgres.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.database(name)
        finally:
            postgres.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextlib.contextmanager
    def commit_latency(self, milliseconds: int) -> Iterator[None]:
        """Every commit waits this long before it is flushed, as on a slow disk or for a far standby."""
        self._commit_delay(milliseconds * 1000)
        try:
            yield
        finally:
            self._commit_delay(0)

    def _commit_delay(self, microseconds: int) -> None:
        postgres = self.database("postgres")
        postgres.run(
            f"ALTER SYSTEM SET commit_delay = {microseconds}",
            "ALTER SYSTEM SET commit_siblings = 0",
            "SELECT pg_reload_conf()",
        )
        while int(postgres.value("SELECT setting FROM pg_settings WHERE name = 'commit_delay'")) != microseconds:
            pass

    def facts(self) -> dict[str, str]:
        """Version and settings that the numbers depend on."""
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "full_page_writes")
        return {name: self.database("postgres").value(f"SHOW {name}") for name in names}

    def kill(self) -> None:
        """SIGKILL for the server and all its children, at once."""
        server = psutil.Process(self._server.pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start again on the same data, after `kill`."""
        self._server.restart()

    def stop(self) -> None:
        """End it in good order."""
        self._server.stop()
