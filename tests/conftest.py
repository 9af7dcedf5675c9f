"""The house's fixtures: one PostgreSQL for the session, and in it a database that tests use one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

# Before anything of it is imported: its assertions are to say what they found, as those of tests do.
pytest.register_assert_rewrite("tests.support")

from app.embedded_postgres.server import EmbeddedPostgres
from app.kit.database.schema_version import upgrade
from app.kit.database.session import Database
from app.organizations.queries import find as find_organization
from app.organizations.service import create_key
from app.settings import Settings
from tests.support.application import Served, serving
from tests.support.postgres import NOT_DURABLE, Cluster, chosen_autovacuum, empty
from tests.support.services import open_folder
from tests.support.settings import settings_for
from tests.support.types import Headers

pytest_plugins = ["tests.support.tiers"]

MakeKey = Callable[..., Awaitable[Headers]]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real PostgreSQL, as `multitude up` starts it, but that it flushes nothing: no test kills this one."""
    with open_folder("multitude-tests-") as folder:
        started = Cluster(folder / "data", **NOT_DURABLE, **chosen_autovacuum())
        try:
            yield started
        finally:
            # Nothing in it is worth a checkpoint.
            started.kill()
            started.stop()


@pytest.fixture(scope="session")
def used_before() -> Iterator[Path]:
    """A data folder that `multitude up` has used before, to be copied: that is quicker than making one."""
    with open_folder("multitude-used-") as folder:
        with EmbeddedPostgres.start(folder / "data") as server:
            upgrade(server.url)
        yield folder / "data"


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """The schema, built by the migrations, once."""
    cluster.database("postgres").run("CREATE DATABASE multitude_template")
    upgrade(cluster.url("multitude_template"))
    return "multitude_template"


@pytest.fixture(scope="session")
def shared_url(cluster: Cluster, template: str) -> Iterator[str]:
    """A copy of the template that tests use one after the other, emptied in between."""
    with cluster.fresh("shared", template) as database:
        yield database.url


@pytest.fixture(scope="session")
async def cleaner(shared_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the shared database for whoever empties it."""
    connection = await asyncpg.connect(shared_url)
    yield connection
    await connection.close()


@pytest.fixture
async def url(shared_url: str, cleaner: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[str]:
    """A database as the migrations leave it, where commits are real."""
    yield shared_url
    await empty(cleaner)


@pytest.fixture
def own_url(cluster: Cluster, template: str) -> Iterator[str]:
    """A database of this test's own, to change its schema."""
    with cluster.fresh(f"test_{uuid4().hex[:12]}", template) as database:
        yield database.url


@pytest.fixture
def settings(url: str) -> Settings:
    return settings_for(url)


@pytest.fixture(scope="session")
async def shared_database(shared_url: str) -> AsyncIterator[Database]:
    """What tests ask the shared database with; its statements are compiled once."""
    database = Database(shared_url, name="test")
    yield database
    await database.close()


@pytest.fixture
async def database(url: str, shared_database: Database, shared_url: str) -> AsyncIterator[Database]:
    """The database of this test, beside whatever the application has opened."""
    if url == shared_url:
        yield shared_database
        return
    database = Database(url, name="test")
    yield database
    await database.close()


@pytest.fixture
async def served(settings: Settings) -> AsyncIterator[Served]:
    async with serving(settings) as served:
        yield served


@pytest.fixture
def client(served: Served) -> httpx.AsyncClient:
    return served.client


@pytest.fixture
def make_key(database: Database) -> MakeKey:
    """Make a key of a role and give the headers to use it."""

    async def make(role: str, organization: str = "movement") -> Headers:
        async with database.transaction() as session:
            found = await find_organization(session, organization)
            assert found is not None
            _, key = await create_key(session, found, role)
        return {"Authorization": f"Bearer {key}"}

    return make


@pytest.fixture
async def owner(make_key: MakeKey) -> Headers:
    return await make_key("owner")


@pytest.fixture
async def campaigner(make_key: MakeKey) -> Headers:
    return await make_key("campaigner")


@pytest.fixture
async def analyst(make_key: MakeKey) -> Headers:
    return await make_key("analyst")


@pytest.fixture
async def data_officer(make_key: MakeKey) -> Headers:
    return await make_key("data_officer")
