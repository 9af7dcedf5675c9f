"""The house's fixtures: one PostgreSQL for the session, one template, a fresh copy of it for every test."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from movement import SECRET_KEYS

from app.embedded_postgres.server import EmbeddedPostgres
from app.kit.database.schema_version import upgrade
from app.kit.database.session import Database
from app.kit.web.asgi import Asgi
from app.main import create_api, wrap_middleware
from app.organizations.queries import find as find_organization
from app.organizations.service import create_key
from app.rooms import metadata
from app.settings import Settings

TEMPLATE = "multitude_template"

Headers = dict[str, str]
MakeKey = Callable[..., Awaitable[Headers]]


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL, as `multitude up` starts it."""
    folder = Path(tempfile.mkdtemp(prefix="multitude-tests-"))
    folder.chmod(0o755)
    started = EmbeddedPostgres.start(folder)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def database_url(server: EmbeddedPostgres, name: str) -> str:
    return server.url.replace("/multitude?", f"/{name}?")


async def _administer(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(database_url(server, "postgres"))
    await connection.execute(statement)
    await connection.close()


@pytest.fixture(scope="session")
def template(server: EmbeddedPostgres) -> str:
    """The schema, built by the migrations, once."""
    asyncio.run(_administer(server, f"CREATE DATABASE {TEMPLATE}"))
    upgrade(database_url(server, TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
async def shared_url(server: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """A copy of the template that tests use one after the other, emptied in between."""
    async with _copy_of(server, template) as url:
        yield url


@pytest.fixture
async def url(shared_url: str) -> AsyncIterator[str]:
    """A database as the migrations leave it, where commits are real."""
    yield shared_url
    await _empty(shared_url)


@pytest.fixture
async def own_url(server: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """A database of this test's own, to change its schema or to race in."""
    async with _copy_of(server, template) as url:
        yield url


@asynccontextmanager
async def _copy_of(server: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY = file_copy")
    try:
        yield database_url(server, name)
    finally:
        await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url)
    # Whoever is still connected would hold what the next test needs, lanes above all.
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for table in reversed(metadata.sorted_tables):
        kept = " WHERE kind = 'partner'" if table.name == "organizations" else ""
        await connection.execute(f"DELETE FROM {table.name}{kept}")
    await connection.close()


def settings_for(url: str, **more: object) -> Settings:
    # As `multitude up` sets it: receivers of tests are on this machine.
    own = {"database_url": url, "secret_keys": SECRET_KEYS, "log_level": "ERROR", "webhook_loopback": True}
    values = {**own, **more}
    return Settings.model_validate(values)


@pytest.fixture
def settings(url: str) -> Settings:
    return settings_for(url)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, name="test")
    yield database
    await database.close()


@dataclass(frozen=True)
class Served:
    """The application, running in this process, and a client that talks to it."""

    api: FastAPI
    app: Asgi
    client: httpx.AsyncClient


async def serve(settings: Settings) -> AsyncIterator[Served]:
    api = create_api(settings)
    app = wrap_middleware(api, settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://multitude.test") as client,
    ):
        yield Served(api, app, client)


@pytest.fixture
async def served(settings: Settings) -> AsyncIterator[Served]:
    async for served in serve(settings):
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
