"""The schema: built by its migrations alone, the same as the models say, and taken down again."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.kit.database import schema_version
from app.kit.database.session import Database
from app.rooms import metadata
from tests.support.postgres import Cluster
from tests.support.services import command

VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))
# Everything a table is made of, as PostgreSQL itself spells it.
_SCHEMA = """
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
        pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated::text, NULL
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, NULL, NULL FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'table', relname, NULL, array_to_string(reloptions, ','), NULL, NULL
    FROM pg_class WHERE relkind IN ('r', 'S', 'v') AND relnamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3
"""
Fresh = Callable[[], str]


def _done(action: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(action)


@pytest.fixture
def fresh(cluster: Cluster) -> Iterator[Fresh]:
    """Make an empty database; its URL."""
    with ExitStack() as made:
        yield lambda: made.enter_context(cluster.fresh(f"bare_{uuid4().hex[:12]}", "template0")).url


def _schema(url: str) -> set[tuple[Any, ...]]:
    async def read() -> set[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch(_SCHEMA)
        await connection.close()
        return {tuple(row) for row in rows if row[1] != "alembic_version"}

    found: set[tuple[Any, ...]] = _done(read())
    return found


def _with_models(url: str, do: Callable[[Connection], Any]) -> Any:
    async def run() -> Any:
        database = Database(url, name="migrations")
        async with database.transaction() as session:
            done = await (await session.connection()).run_sync(do)
        await database.close()
        return done

    return _done(run())


def test_up_and_down_and_up_again(fresh: Fresh) -> None:
    url = fresh()
    schema_version.upgrade(url)
    first = _schema(url)
    # The one sequence: what is announced later has the higher number.
    assert {row[1] for row in first if row[0] == "table"} == {*metadata.tables, "outbox_messages_number_seq"}
    schema_version.downgrade(url, "base")
    assert _schema(url) == set()
    schema_version.upgrade(url)
    assert _schema(url) == first


def test_migrations_and_models_say_the_same(fresh: Fresh) -> None:
    migrated, modelled = fresh(), fresh()
    schema_version.upgrade(migrated)
    _with_models(modelled, metadata.create_all)
    assert _schema(migrated) == _schema(modelled)

    def differences(connection: Connection) -> Any:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert _with_models(migrated, differences) == []


@pytest.mark.process
def test_a_second_upgrade_changes_nothing_and_two_at_once_do_not_collide(fresh: Fresh) -> None:
    url = fresh()
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(command, "migrate", DATABASE_URL=url) for _ in range(2)]
    assert [(one.result().stderr, one.result().returncode) for one in both] == [("", 0), ("", 0)]
    before = _schema(url)
    schema_version.upgrade(url)
    assert _schema(url) == before


def test_what_a_schema_is_compared_with_is_the_newest_migration() -> None:
    scripts = ScriptDirectory.from_config(schema_version.configuration("postgresql://unused"))
    assert scripts.get_heads() == [schema_version.head()]
    assert len(list(scripts.walk_revisions())) == len(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_is_named_by_its_date_and_says_what_it_does(version: Path) -> None:
    assert re.fullmatch(r"20\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])_[a-z0-9_]+", version.stem)
    text = version.read_text(encoding="utf-8")
    assert f'revision = "{version.stem}"' in text
    assert text.startswith('"""')
    assert "def downgrade() -> None:\n    pass" not in text
    assert "lock_timeout" not in text, "`env.py` sets it, for all of them"


def test_a_migration_gives_up_rather_than_wait_for_a_lock() -> None:
    env = (VERSIONS[0].parents[1] / "env.py").read_text(encoding="utf-8")
    assert re.search(r"SET lock_timeout = '[1-9]s'", env)


async def _wait_for_a_lock(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'consents'::regclass)"
    async with asyncio.timeout(60):
        while not await connection.fetchval(waiting):
            continue


async def _enter_consents_while(url: str, migrate: Callable[[], None]) -> None:
    """As the version before: whoever reads signatures waits for nobody while a migration waits for this."""
    entering, signing = await asyncpg.connect(url), await asyncpg.connect(url)
    transaction = entering.transaction()
    await transaction.start()
    await entering.execute("LOCK TABLE consents IN ROW EXCLUSIVE MODE")
    migrating_ = asyncio.create_task(asyncio.to_thread(migrate))
    await _wait_for_a_lock(signing)
    await signing.execute("SET lock_timeout = '1s'")
    assert await signing.fetchval("SELECT count(*) FROM signatures") == 0
    await transaction.rollback()
    await migrating_
    for connection in (entering, signing):
        await connection.close()


def test_signatures_are_locked_last_when_partners_come(fresh: Fresh) -> None:
    url = fresh()
    schema_version.upgrade(url, "20261122_people_indexes")
    _done(_enter_consents_while(url, lambda: schema_version.upgrade(url, "20261122_webhooks")))


def test_no_migration_copies_rows_under_its_locks() -> None:
    for version in VERSIONS:
        assert not re.search(r"INSERT INTO \w+ \([^)]*\)\s+SELECT", version.read_text(encoding="utf-8"))


_KEY = """
    INSERT INTO api_keys (id, organization_id, role, prefix, digest, created_at)
    SELECT gen_random_uuid(), id, 'owner', 'mtd_owner_', sha256($1::text::bytea), now() FROM organizations
"""


async def _keys_and_a_log(url: str, migrate: Callable[[], None], back: Callable[[], None]) -> None:
    """A key of the version before, one that it makes beside the new version, and a log that is not empty."""
    connection = await asyncpg.connect(url)
    await connection.execute(_KEY, "before")
    await asyncio.to_thread(migrate)
    await connection.execute(_KEY, "beside")
    expiries = await connection.fetch("SELECT expires_at - now() AS life FROM api_keys ORDER BY expires_at")
    assert 364 <= expiries[0]["life"].days <= 365
    assert expiries[1]["life"] is None
    await connection.execute("""
        INSERT INTO audit_entries (number, at, role, verb, category, object_kind, row_count, fields, previous_digest,
            digest)
        VALUES (1, now(), 'owner', 'x.y', 'act', 'x', 1, '{}', decode(repeat('00', 32), 'hex'), '')
    """)
    await asyncio.to_thread(back)
    assert await connection.fetchval("SELECT count(*) FROM api_keys") == 2
    await asyncio.to_thread(migrate)
    await connection.close()


def test_keys_of_the_version_before_go_on_and_get_a_year(fresh: Fresh) -> None:
    url, before = fresh(), "20261127_failures"
    schema_version.upgrade(url, before)
    _done(
        _keys_and_a_log(
            url,
            lambda: schema_version.upgrade(url, "20261128_audit"),
            lambda: schema_version.downgrade(url, before),
        )
    )
