"""A PostgreSQL of one's own, its databases, and plain SQL on them.

A cluster is the one `multitude up` starts: durable, for benches and for whatever is killed. Tests that kill nothing
may take one that flushes nothing.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from app.embedded_postgres.server import EmbeddedPostgres
from app.kit.database.session import driver_url
from tests.support.services import kill_tree

# A computer that loses power loses such a cluster; a test's has nothing to lose.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# Vacuums and analyzes every table every second: what a test must not notice.
_EAGER = {
    "autovacuum_naptime": "1s",
    "autovacuum_vacuum_threshold": "0",
    "autovacuum_vacuum_insert_threshold": "0",
    "autovacuum_analyze_threshold": "0",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_insert_scale_factor": "0",
    "autovacuum_analyze_scale_factor": "0",
    "autovacuum_vacuum_cost_delay": "0",
}
AUTOVACUUM = {"eager": _EAGER, "off": {"autovacuum": "off"}, "": {}}


def chosen_autovacuum() -> Mapping[str, str]:
    """What `MULTITUDE_TEST_AUTOVACUUM` asks for: `eager`, `off`, or nothing (as PostgreSQL comes)."""
    return AUTOVACUUM[os.environ.get("MULTITUDE_TEST_AUTOVACUUM", "")]


@dataclass(frozen=True, slots=True)
class SqlDatabase:
    """One database, asked in plain SQL, over a new connection each time."""

    url: str

    def run(self, *statements: str) -> None:
        """Statements without an answer, each in a transaction of its own."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """The rows of one query."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            try:
                return await connection.fetch(query, *arguments)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def value(self, query: str, *arguments: object) -> Any:
        """The first column of a query's only row."""
        return self.rows(query, *arguments)[0][0]


# How the connections name themselves that a test may leave to the next one.
KEPT = "multitude test"
# Whoever else is still connected would hold what the next test needs, lanes above all.
_ALONE = f"""
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND NOT (application_name = '{KEPT}' AND state = 'idle')
"""
_TABLES = "FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
# What the migrations put in is kept.
_DELETE = """format('DELETE FROM %I', relname)
    || CASE relname WHEN 'organizations' THEN $$ WHERE kind = 'partner'$$ ELSE '' END"""
# One round trip for all tables, in any order: a replica checks no foreign key.
_STATEMENT = f"""
    SELECT 'SET session_replication_role = replica;' || string_agg({_DELETE}, ';') {_TABLES}
    AND relname <> 'alembic_version'
"""
# Bytes. What a crowd has left is cut off, so that nobody after it walks through dead rows; TRUNCATE of all tables would
# take 140 ms where DELETE from all takes 10.
_LARGE = f"SELECT string_agg(format('%I', relname), ',') {_TABLES} AND pg_relation_size(oid) > 1000000"


async def empty(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Put out all others who use this connection's database, and delete all rows."""
    await connection.execute(_ALONE)
    await connection.execute(await connection.fetchval(_STATEMENT))
    if large := await connection.fetchval(_LARGE):
        await connection.execute(f"TRUNCATE {large} CASCADE")


class Cluster:
    """A running server and its databases."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.server = EmbeddedPostgres.start(data_dir)
        if settings:
            self.configure(**settings)

    def url(self, name: str) -> str:
        """The address of the database of this name."""
        return make_url(self.server.url).set(database=name).render_as_string(hide_password=False)

    def database(self, name: str) -> SqlDatabase:
        """The database of this name, which must exist."""
        return SqlDatabase(self.url(name))

    @contextmanager
    def fresh(self, name: str, template: str = "template1") -> Iterator[SqlDatabase]:
        """A new database, dropped when the block ends."""
        postgres = self.database("postgres")
        postgres.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.database(name)
        finally:
            postgres.run(f"DROP DATABASE {name} WITH (FORCE)")

    def configure(self, **settings: str) -> None:
        """Change settings that need no restart, for all who are connected; returns when they hold."""
        postgres = self.database("postgres")
        changes = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()]
        loaded = postgres.value("SELECT pg_conf_load_time()")
        postgres.run(*changes, "SELECT pg_reload_conf()")
        while postgres.value("SELECT pg_conf_load_time()") == loaded:
            pass

    @contextmanager
    def commit_latency(self, milliseconds: int) -> Iterator[None]:
        """Every commit waits this long before it is flushed, as on a slow disk or for a far standby."""
        self.configure(commit_delay=str(milliseconds * 1000), commit_siblings="0")
        try:
            yield
        finally:
            self.configure(commit_delay="0")

    def facts(self) -> dict[str, str]:
        """Version and settings that numbers depend on."""
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "full_page_writes")
        return {name: self.database("postgres").value(f"SHOW {name}") for name in names}

    def dump(self, url: str) -> str:
        """All of the database at this address, as `pg_dump` writes it."""
        program = self.server._cluster.binaries.folder / "pg_dump"
        return subprocess.run(
            [str(program), "--dbname", driver_url(url)], capture_output=True, text=True, check=True
        ).stdout

    def log(self) -> str:
        """What the server has logged."""
        return self.server._cluster.log.read_text()

    def kill(self) -> None:
        """SIGKILL for the server and all its children, at once."""
        kill_tree(self.server.pid)

    def restart(self) -> None:
        """Start again on the same data, after `kill`."""
        self.server.restart()

    def stop(self) -> None:
        """End it in good order."""
        self.server.stop()
