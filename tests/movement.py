"""What the stories about signing share: people who sign, petitions to sign, and the proof that all is counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import worker
from app.campaigns.models import Campaign
from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.rooms import Services
from app.kit.web.middleware import Asgi
from app.main import create_api, wrap_middleware
from app.petitions.models import Petition
from app.rooms import ROOMS
from app.settings import Settings
from app.signatures.dimensions import NAMES
from app.signatures.reading.recount import differences, recount

Json = dict[str, Any]

SECRET_KEYS = "a-secret-that-is-only-for-tests-0001"
FINGERPRINT = KeyRing.parse(SECRET_KEYS).fingerprint()


def person(number: int, country: str = "UG", **more: object) -> Json:
    """One of many people, as a body to sign with."""
    return {
        "given_name": f"Given{number}",
        "family_name": f"Family{number}",
        "email": f"person.{number}@example.org",
        "country": country,
        **more,
    }


async def plant(database: Database, slug: str = "end-the-ban", **more: Any) -> UUID:
    """A petition, open unless said otherwise, put straight into the database; its id."""
    async with database.transaction() as session:
        campaign = Campaign(slug=f"campaign-of-{slug}", title="Title", goal_statement="Goal")
        session.add(campaign)
        await session.flush()
        given = {"state": "open", "signature_goal": 100, "opens_at": now(), **more}
        petition = Petition(campaign_id=campaign.id, slug=slug, title="End the ban", ask="End it.", **given)
        session.add(petition)
        await session.flush()
        return petition.id


async def run(database: Database, statement: str, **values: object) -> list[Any]:
    """One statement, committed; its rows."""
    async with database.transaction() as session:
        result = await session.execute(text(statement), values)
        return list(result) if result.returns_rows else []


async def until(database: Database, question: str, seconds: float = 20) -> None:
    """Ask until the answer is true."""
    async with asyncio.timeout(seconds):
        while not (await run(database, question))[0][0]:
            continue


async def dump(database: Database) -> list[Any]:
    """Every signature and every tally as they stand."""
    signatures = await run(database, "SELECT * FROM signatures ORDER BY petition_id, signer")
    return [*signatures, *await run(database, "SELECT * FROM signature_tallies ORDER BY 1, 2, 3, 4")]


async def prove(session: AsyncSession, petition_id: UUID) -> int:
    """The petition's count, once it is shown that its rows, its total and each dimension are of one mind."""
    values = {"petition_id": petition_id}
    sums = await session.execute(
        text(
            "SELECT dimension, sum(signature_count) FROM signature_tallies WHERE petition_id = :petition_id GROUP BY 1"
        ),
        values,
    )
    of = {dimension: int(summed) for dimension, summed in sums}
    rows = text("SELECT count(*) FROM signatures WHERE petition_id = :petition_id AND state = 'confirmed'")
    count = int((await session.execute(rows, values)).scalar_one())
    assert {of.get(dimension, 0) for dimension in NAMES} == {count}
    assert await differences(session, petition_id) == []
    return count


async def proven(database: Database) -> dict[str, int]:
    """The count of every petition by its slug, proven; what `tally verify` says is the same."""
    counts = {}
    async with database.snapshot() as session:
        async for verdict in recount(session):
            assert verdict.differences == []
            counts[verdict.slug] = await prove(session, verdict.petition_id)
            assert verdict.signature_count == counts[verdict.slug]
    return counts


def services_for(database: Database, settings: Settings | None = None, *opened: object) -> Services:
    """Services over this database, as a process would have them, with what is `opened` of its rooms."""
    own = {"database_url": "postgresql://unused", "secret_keys": SECRET_KEYS}
    services = Services(settings or Settings.model_validate(own), database, ROOMS)
    for service in opened:
        services = services.with_service(service)
    return services


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[FastAPI, Asgi, httpx.AsyncClient]]:
    """The application with settings of its own, and a client."""
    api = create_api(settings)
    app = wrap_middleware(api, settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://multitude.test") as client,
    ):
        yield api, app, client


async def sweep(database: Database) -> None:
    """One round of all that the worker does by itself, but for mails and rules."""
    await worker.sweep_once(database, worker.sweeps_of(services_for(database)))


@asynccontextmanager
async def working(settings: Settings, **more: object) -> AsyncIterator[Settings]:
    """The worker, in this process, for as long as the block lasts."""
    ending = asyncio.Event()
    chosen = settings.model_copy(update={"sweep_seconds": 0.02, **more})
    task = asyncio.create_task(worker.work(chosen, ending))
    try:
        yield chosen
    finally:
        ending.set()
        await task


def like(count: int, make: Callable[..., Json] = person, **more: object) -> list[Json]:
    """So many people who have this in common."""
    return [make(number, **more) for number in range(count)]
