"""The whole house with a key for every role, in a database of its own per file. Its guards look, and change little."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.kit.database.session import Database
from app.organizations.principals import STAFF_ROLES
from app.organizations.queries import find
from app.organizations.service import create_key, create_organization
from app.people.account.service import remember
from app.people.account.sessions import begin
from app.people.sealing import Details
from app.settings import Settings
from tests.support.api_surface import BODY_LIMIT, House
from tests.support.application import serving
from tests.support.postgres import Cluster
from tests.support.settings import settings_for
from tests.support.types import Headers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="module")
def house_url(cluster: Cluster, template: str) -> Iterator[str]:
    """A database of this file's own, with the schema."""
    with cluster.fresh(f"house_{uuid4().hex[:12]}", template) as database:
        yield database.url


@pytest.fixture(scope="module")
async def house(house_url: str) -> AsyncIterator[House]:
    """The application in this process, with one key for every role."""
    settings = settings_for(house_url, webhook_loopback=False, max_body_bytes=BODY_LIMIT, commit_patience_seconds=0.2)
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
        begun = await begin(session, settings.key_ring, signer, Details("amina@example.org"))
    return {"Authorization": f"Bearer {begun.key}"}
