"""Alive, and ready: two questions with two answers."""

import httpx
import pytest

from app.kit.database.session import Database
from tests.support.databases import run


@pytest.fixture
def url(own_url: str) -> str:
    """A database whose schema may be spoilt."""
    return own_url


async def test_a_process_is_ready_when_its_schema_is_there(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_schema_that_is_behind_is_not_ready(client: httpx.AsyncClient, database: Database) -> None:
    await run(database, "UPDATE alembic_version SET version_num = '20200101_before'")
    behind = await client.get("/readyz")
    await run(database, "DROP TABLE alembic_version")
    none = await client.get("/readyz")
    for answer in (behind, none):
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:multitude:problem:schema-behind")
        assert "multitude migrate" in answer.json()["title"]
    assert (await client.get("/healthz")).status_code == 200
