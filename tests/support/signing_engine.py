"""What the races share: signing through a hot room, holding the database still, and seeing who waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from app.kit import metrics
from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Connection, Database, committing
from app.signatures import service
from app.signatures.engine.signings import Signing
from app.signatures.schemas import SigningBody
from app.signatures.services import SigningServices
from app.signatures.signing.prepare import prepare
from tests.support.databases import run
from tests.support.services import PATIENCE
from tests.support.types import Json

SLUG = "end-the-ban"


async def sign(room: SigningServices, body: Json, slug: str = SLUG) -> Signing:
    _, signing = await service.sign(room, slug, SigningBody.model_validate(body))
    return signing


def prepared(ring: KeyRing, petition_id: UUID, people: list[Json]) -> list[Signing]:
    return [prepare(ring, petition_id, SigningBody.model_validate(body), now()) for body in people]


@asynccontextmanager
async def signatures_locked(database: Database) -> AsyncIterator[Connection]:
    """For as long as the block lasts nobody can write a signature."""
    connection = await database.pin()
    try:
        async with committing(connection):
            await connection.execute("LOCK TABLE signatures IN EXCLUSIVE MODE")
            yield connection
    finally:
        await connection.close()


async def wait_for_blocked(connection: Connection, least: int = 1) -> list[int]:
    """Wait until so many backends wait for a lock; their process ids."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE):
        while len(found := await connection.fetch(query)) < least:
            # An activity view does not change within a transaction unless it is asked to.
            await connection.execute("SELECT pg_stat_clear_snapshot()")
    return [row["pid"] for row in found]


async def deadlocks(database: Database) -> int:
    rows = await run(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(rows[0][0])


def commit_failures() -> float:
    return float(metrics.commit_failures._value.get())
