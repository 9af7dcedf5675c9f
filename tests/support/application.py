"""The API and the worker in this process, on settings of the test's own."""

import asyncio
import importlib.util
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
from fastapi import FastAPI
from starlette.datastructures import State

from app import worker
from app.kit.database.session import Database
from app.kit.room_interface import Services
from app.kit.web.asgi import Asgi
from app.main import create_api, wrap_middleware
from app.rooms import ROOMS
from app.settings import Settings
from tests.support.settings import settings_for

# With each request the client asks whether trio runs, by trying to import what is not there: a search through all of
# the path, as long as a tenth of a short request.
if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


class Served(NamedTuple):
    """The application, running in this process, and a client that talks to it."""

    api: FastAPI
    app: Asgi
    client: httpx.AsyncClient


class _Idle(NamedTuple):
    settings: Settings
    api: FastAPI
    app: Asgi
    state: State


# Routes are compiled at an application's first requests, which takes ten times as long as all the rest of a short test.
# So applications are used again, each by one at a time; what they hold lives as long as their lifespan, and no longer.
_IDLE: deque[_Idle] = deque(maxlen=16)


def _take(settings: Settings) -> _Idle:
    for idle in _IDLE:
        if idle.settings == settings:
            _IDLE.remove(idle)
            return idle
    api = create_api(settings)
    return _Idle(settings, api, wrap_middleware(api, settings), api.state)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    """The application for as long as the block lasts, begun and ended as a process begins and ends it."""
    taken = _take(settings)
    api, app = taken.api, taken.app
    api.state = State(dict(taken.state._state))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://multitude.test") as client,
    ):
        yield Served(api, app, client)
    _IDLE.append(taken)


def services_for(database: Database, settings: Settings | None = None, *opened: object) -> Services:
    """Services over this database, as a process would have them, with what is `opened` of its rooms."""
    services = Services(settings or settings_for("postgresql://unused"), database, ROOMS)
    for service in opened:
        services = services.with_service(service)
    return services


async def sweep(database: Database) -> None:
    """One round of all that the worker does by itself, but for mails and rules."""
    await worker.sweep_once(database, worker.sweeps_of(services_for(database)))


@asynccontextmanager
async def running_worker(settings: Settings, **more: object) -> AsyncIterator[Settings]:
    """The worker, in this process, for as long as the block lasts."""
    ending = asyncio.Event()
    chosen = settings.model_copy(update={"sweep_seconds": 0.02, **more})
    task = asyncio.create_task(worker.work(chosen, ending))
    try:
        yield chosen
    finally:
        ending.set()
        await task
