"""Two processes' worth of hot rooms over one database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from app.kit.abuse.protection import open_protection
from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.engine.lanes import Lane, claim
from app.signatures.services import SigningServices, open_signing_services
from tests.support.factories import insert_petition
from tests.support.settings import FINGERPRINT

OpenRoom = Callable[..., Awaitable[SigningServices]]


@pytest.fixture
async def open_room(settings: Settings) -> AsyncIterator[OpenRoom]:
    """Open a hot room as a process of its own would, with these settings."""
    opened: list[tuple[SigningServices, Database]] = []

    async def make(**more: object) -> SigningServices:
        chosen = settings.model_copy(update=more)
        database = Database(chosen.database_url.get_secret_value(), pool_size=2)
        room = open_signing_services(chosen, database, open_protection(chosen, database))
        opened.append((room, database))
        return room

    yield make
    for room, database in opened:
        await room.close()
        await database.close()


@pytest.fixture
async def rooms(open_room: OpenRoom) -> list[SigningServices]:
    """Two hot rooms: two queues, two lanes."""
    return [await open_room(), await open_room()]


@pytest.fixture
async def petition_id(database: Database) -> UUID:
    """An open petition, `end-the-ban`."""
    return await insert_petition(database)


@pytest.fixture
async def lanes(database: Database) -> AsyncIterator[tuple[Lane, Lane]]:
    both = await claim(database, FINGERPRINT), await claim(database, FINGERPRINT)
    yield both
    for lane in both:
        lane.drop()
