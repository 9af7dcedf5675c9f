"""A room that is added to the one list is there for every door: nothing else has to be told of it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi import FastAPI
from sqlalchemy import Connection, LargeBinary

from app import worker
from app.commands.rotation import rotate
from app.kit.database.session import Base, Database
from app.kit.room_interface import Room
from app.main import create_api, wrap_middleware
from app.people.account.service import remember
from app.people.account.sessions import begin
from app.people.sealing import Details
from app.rooms import ROOMS, metadata, metadata_of
from app.settings import Settings
from tests.support import trial_room
from tests.support.databases import run
from tests.support.docs_programs import list_roles
from tests.support.settings import SECRET_KEYS

WITH_NOTES: tuple[Room, ...] = (*ROOMS, trial_room.ROOM)
AMINA = "amina@example.org"
WORDS = "I bring the chairs."


@pytest.fixture
async def url(own_url: str) -> str:
    return own_url


@pytest.fixture
async def migrated(database: Database) -> list[str]:
    """The scratch database, brought up to the models of all rooms by what Alembic finds is missing."""

    def migrate(connection: Connection) -> list[str]:
        context = MigrationContext.configure(connection)
        missing = produce_migrations(context, metadata_of(WITH_NOTES)).upgrade_ops
        assert missing is not None
        for operation in missing.ops:
            Operations(context).invoke(operation)
        return [type(operation).__name__ for operation in missing.ops]

    async with database.engine.begin() as connection:
        return await connection.run_sync(migrate)


@pytest.fixture
async def api(settings: Settings, migrated: list[str]) -> AsyncIterator[FastAPI]:
    api = create_api(settings, WITH_NOTES)
    async with api.router.lifespan_context(api):
        yield api


@pytest.fixture
async def client(api: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=wrap_middleware(api, settings, WITH_NOTES))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://multitude.test") as client:
        yield client


@pytest.fixture
async def noted(client: httpx.AsyncClient, campaigner: dict[str, str]) -> int:
    body = {"email": AMINA, "words": WORDS}
    return (await client.post("/v1/notes", json=body, headers=campaigner)).status_code


async def test_it_is_migrated_and_serves(migrated: list[str], noted: int, database: Database) -> None:
    assert migrated == ["CreateTableOp"]
    assert noted == 201
    ((sealed,),) = await run(database, "SELECT sealed FROM notes")
    assert WORDS.encode() not in sealed


def test_it_is_described_and_in_the_roles_table(settings: Settings) -> None:
    api = create_api(settings, WITH_NOTES)
    assert "/v1/notes" in api.openapi()["paths"]
    assert "note.written" in api.openapi()["webhooks"]
    assert "| `POST /v1/notes` | yes | yes |" in list_roles.table(api)


async def test_its_sweep_runs_and_what_it_tells_reaches_an_endpoint(
    noted: int, client: httpx.AsyncClient, owner: dict[str, str], settings: Settings, database: Database
) -> None:
    endpoint = {"url": "http://127.0.0.1:9/", "types": ["note.written"]}
    made = await client.post("/v1/organizations/movement/webhook-endpoints", json=endpoint, headers=owner)
    assert made.status_code == 201, made.text
    async with worker.worker_services(settings, WITH_NOTES) as services:
        for _ in range(2):
            await worker.sweep_once(services.database, worker.sweeps_of(services))
    assert [tuple(row) for row in await run(database, "SELECT type, content FROM webhook_messages")] == [
        ("note.written", {"count": 1})
    ]


async def test_what_it_keeps_is_exported_and_erased(
    noted: int, client: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    signer = settings.key_ring.digest(AMINA)
    async with database.transaction() as session:
        await remember(session, settings.key_ring, signer, email=AMINA)
        key = {"Authorization": f"Bearer {(await begin(session, settings.key_ring, signer, Details(AMINA))).key}"}
    assert (await client.get("/v1/me/export", headers=key)).json()["notes"] == [WORDS]
    assert (await client.post("/v1/me/erasure", json={"signatures": "withdraw"}, headers=key)).status_code == 200
    assert await run(database, "SELECT 1 FROM notes") == []


async def test_its_sealed_column_is_brought_under_the_newest_key(
    noted: int, settings: Settings, database: Database
) -> None:
    newest = "another-secret-that-is-only-for-tests"
    ring = {"database_url": settings.database_url, "secret_keys": f"{newest},{SECRET_KEYS}"}
    rotated = Settings.model_validate(ring)
    done = await rotate(rotated, WITH_NOTES)
    assert done["notes.sealed"].resealed_count == 1


def test_a_room_that_keeps_something_of_people_exports_and_erases_it() -> None:
    """`people` does so itself; whatever else has a signer's key in a table has a store for it."""
    storing = {room.name for room in ROOMS if room.personal_data is not None} | {"people"}
    keeping = {
        mapper.class_.__module__.split(".")[1] for mapper in Base.registry.mappers if "signer" in mapper.local_table.c
    }
    assert keeping == storing


def test_every_sealed_column_rotates() -> None:
    """Bytes are a digest, a token of ours, or sealed; what is sealed is named in the room's `room.py`."""
    rotating = {(column.table, column.column) for room in ROOMS for column in room.sealed_columns}
    binary = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.c
        if isinstance(column.type, LargeBinary)
    }
    digests = {
        (table, column)
        for table, column in binary
        if column == "signer" or column.endswith(("digest", "fingerprint", "key_id"))
    }
    assert binary - digests == rotating
