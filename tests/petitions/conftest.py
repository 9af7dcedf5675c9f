"""A campaign, petitions under it, and a way to let time pass."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest

from app.kit.database.session import Database
from tests.support.time_travel import age_petitions
from tests.support.types import Headers, Json

Draft = Callable[..., Awaitable[Json]]
LetPass = Callable[[timedelta], Awaitable[None]]

CAMPAIGN = "equal-everywhere"


@pytest.fixture
async def campaign(client: httpx.AsyncClient, campaigner: Headers) -> str:
    """The slug of a campaign."""
    body = {"slug": CAMPAIGN, "title": "Equal everywhere", "goal": "No country punishes love"}
    answer = await client.post("/v1/campaigns", json=body, headers=campaigner)
    assert answer.status_code == 201, answer.text
    return CAMPAIGN


@pytest.fixture
def draft(client: httpx.AsyncClient, campaigner: Headers, campaign: str) -> Draft:
    """Draft a petition; its view."""

    async def make(slug: str = "repeal-the-act", **more: object) -> Json:
        body = {"slug": slug, "title": "Repeal the Act", "ask": "Repeal the Act.", **more}
        answer = await client.post(f"/v1/campaigns/{campaign}/petitions", json=body, headers=campaigner)
        assert answer.status_code == 201, answer.text
        view: Json = answer.json()
        return view

    return make


@pytest.fixture
async def published(client: httpx.AsyncClient, campaigner: Headers, draft: Draft) -> Json:
    """An open petition."""
    petition = await draft()
    answer = await client.post(f"/v1/petitions/{petition['slug']}/publish", headers=campaigner)
    assert answer.status_code == 200, answer.text
    view: Json = answer.json()
    return view


@pytest.fixture
def let_pass(database: Database) -> LetPass:
    """Let time pass for all petitions: what lay ahead comes nearer by so much."""

    async def pass_(time: timedelta) -> None:
        await age_petitions(database, time)

    return pass_
