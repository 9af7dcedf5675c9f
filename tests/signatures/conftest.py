"""An open petition, and short ways to sign it."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.database.session import Database
from tests.support.factories import insert_petition
from tests.support.types import Json

Sign = Callable[..., Awaitable[httpx.Response]]
Count = Callable[[], Awaitable[int]]
PETITION = "/v1/petitions/end-the-ban"


@pytest.fixture
async def petition_id(database: Database) -> UUID:
    """An open petition, `end-the-ban`."""
    return await insert_petition(database)


@pytest.fixture
def sign(client: httpx.AsyncClient, petition_id: UUID) -> Sign:
    """Sign it with this body; the answer."""

    async def post(body: Json, at: str = PETITION) -> httpx.Response:
        return await client.post(f"{at}/signatures", json=body)

    return post


@pytest.fixture
def withdraw(client: httpx.AsyncClient, petition_id: UUID) -> Callable[..., Awaitable[httpx.Response]]:
    """Withdraw with this receipt; the answer."""

    async def post(receipt: str, at: str = PETITION) -> httpx.Response:
        return await client.post(f"{at}/withdrawals", json={"receipt": receipt})

    return post


@pytest.fixture
def count(client: httpx.AsyncClient, petition_id: UUID) -> Count:
    """The count everybody is shown."""

    async def get() -> int:
        answer: Any = (await client.get(f"{PETITION}/count")).json()
        return int(answer["signature_count"])

    return get
