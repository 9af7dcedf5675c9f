"""The API's door: put the rooms together and wrap the middleware around them."""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.cors import CORSMiddleware

from app.kit import logs
from app.kit.crypto.key_ring_guard import ensure_key_ring
from app.kit.database.session import Database
from app.kit.room_interface import Room, Services, message_types_of, open_services
from app.kit.web import errors, middleware
from app.kit.web.asgi import Asgi
from app.kit.web.bodies import BodyLimit
from app.kit.web.fast_lane import FastLane
from app.kit.web.openapi import describe
from app.kit.webhooks.message_types import MessageTypes
from app.rooms import ROOMS
from app.settings import Settings

# A request makes a hundred objects and no cycles: looking for some every 700 cost a tenth of the time of a signature.
GC_THRESHOLDS = (20_000, 20, 20)


def create_api(settings: Settings, rooms: Sequence[Room] = ROOMS) -> FastAPI:
    """The application without its middleware: what tests reach into and what describes itself."""
    types = message_types_of(rooms)
    api = FastAPI(
        title="Multitude",
        version=version("multitude"),
        summary="The backend of a movement: petitions counted exactly, groups found nearby.",
        lifespan=_lifespan_of(settings, rooms),
        webhooks=_webhooks_of(rooms, types),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        # Its log records carry exception messages, which quote rows; our own metrics do the rest.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    errors.install_error_handlers(api)
    api.add_middleware(BodyLimit, limit=settings.max_body_bytes, routes=api.routes)
    for room in rooms:
        depending = room.message_type_routers(types) if room.message_type_routers is not None else []
        for router in (*room.routers, *depending):
            api.include_router(router)
    describe(api, read_by_hand=[body for room in rooms for body in room.hand_read_bodies])
    return api


def create_app(settings: Settings | None = None) -> Asgi:
    """What a server serves."""
    if settings is None:
        # What the settings' reading warns of goes where everything is logged.
        logs.configure()
        settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    return wrap_middleware(create_api(settings), settings)


def wrap_middleware(api: FastAPI, settings: Settings, rooms: Sequence[Room] = ROOMS) -> Asgi:
    """Put the fast lane, CORS and the request middleware around the application."""
    app: Asgi = FastLane(api, [router for room in rooms for router in room.fast_lane])
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "X-Request-Id", "Retry-After"],
        )
    return middleware.RequestMiddleware(app)


def _lifespan_of(settings: Settings, rooms: Sequence[Room]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        database = Database(settings.database_url.get_secret_value(), pool_size=settings.database_pool_size)
        try:
            await _check_key_ring(settings, database)
            openers = [opener for room in rooms for opener in (*room.services, *room.api_services)]
            async with open_services(Services(settings, database, rooms), openers) as services:
                api.state.services = services
                _freeze_garbage()
                yield
        finally:
            await database.close()

    return lifespan


async def _check_key_ring(settings: Settings, database: Database) -> None:
    """KeyRingMismatchError when the database was filled with another digest key."""
    try:
        async with database.transaction() as session:
            await ensure_key_ring(session, settings.key_ring.fingerprint())
    except (SQLAlchemyError, OSError) as error:
        # No database yet, or no schema: start all the same, `/readyz` says so, and every lane is guarded again.
        logs.log.warning("started without a ready database", **logs.failure_of(error))


def _freeze_garbage() -> None:
    """What is there by now stays for good: the collector need not look at it again at every collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _webhooks_of(rooms: Sequence[Room], types: MessageTypes) -> APIRouter:
    router = APIRouter()
    for room in rooms:
        if room.webhooks is not None:
            router.include_router(room.webhooks(types))
    return router


def _operation_id(route: APIRoute) -> str:
    return route.name
