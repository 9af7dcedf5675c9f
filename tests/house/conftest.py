"""The whole house with a key for every role, in a database of its own per file. Its guards look, and change little."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from movement import serving
from whole_house import BODY_LIMIT, Headers, House

from app.embedded_postgres.server import EmbeddedPostgres
from app.kit.database.session import Database
from app.organizations.principals import STAFF_ROLES
from app.organizations.queries import find
from app.organizations.service import create_key, create_organization
from app.people.account.service import remember
from app.people.account.sessions import begin
from app.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="module")
async def house_url(server: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """A database of this file's own, with the schema."""
    name = f"house_{uuid4().hex[:12]}"
    administrator = await asyncpg.connect(server.url.replace("/multitude?", "/postgres?"))
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY = file_copy")
    yield server.url.replace("/multitude?", f"/{name}?")
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administrator.close()


@pytest.fixture(scope="module")
async def house(house_url: str) -> AsyncIterator[House]:
    """The application in this process, with one key for every role."""
    settings = Settings.model_validate(
        {
            "database_url": house_url,
            "secret_keys": "a-secret-that-is-only-for-tests-0001",
            "log_level": "ERROR",
            "max_body_bytes": BODY_LIMIT,
            "commit_patience_seconds": 0.2,
        }
    )
    database = Database(house_url, name="house")
    async with serving(settings) as (api, _, client):
        keys = {"anonymous": {}, **await _keys(database)}
        keys["person"] = await _sign_in(database, settings)
        yield House(api, client, database, settings, keys)
    await database.close()


async def _keys(database: Database) -> dict[str, Headers]:
    async with database.transaction() as session:
        movement = await find(session, "movement")
        assert movement is not None
        partner = await create_organization(session, "sisters-of-kampala", "Sisters of Kampala")
        made = {role: await create_key(session, movement, role) for role in STAFF_ROLES}
        made["partner"] = await create_key(session, partner, "partner")
    return {role: {"Authorization": f"Bearer {key}"} for role, (_, key) in made.items()}


async def _sign_in(database: Database, settings: Settings) -> Headers:
    """Somebody of whom a little is kept."""
    signer = settings.key_ring.digest("amina@example.org")
    async with database.transaction() as session:
        await remember(session, settings.key_ring, signer, email="amina@example.org")
        begun = await begin(session, signer)
    return {"Authorization": f"Bearer {begun.key}"}
