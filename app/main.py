"""The API's door: put the rooms together, wrap them in their skin."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.cors import CORSMiddleware

from app.campaigns.routes import router as campaigns
from app.kit import logs
from app.kit.abuse.rate_limits import open_limiter
from app.kit.crypto import key_ring_guard
from app.kit.database.session import Database
from app.kit.mail import preview_page
from app.kit.settings import Settings
from app.kit.shutdown import on_shutdown
from app.kit.web import api_docs, health, middleware
from app.kit.web.bodies import BodyLimit
from app.kit.web.fast_lane import FastLane
from app.kit.web.middleware import Asgi
from app.kit.web.openapi import describe
from app.organizations.routes import router as organizations
from app.partners.inbound.services import LARGE, open_inbound_services
from app.partners.outbound.message_types.openapi import router as told
from app.partners.routes import router as partners
from app.partners.schemas import PartnerSigning
from app.people.account.keys import PREFIX
from app.people.account.sessions import recognize
from app.people.me_routes import router as me
from app.people.routes import router as consents
from app.people.sign_in_routes import pages as people_pages
from app.people.sign_in_routes import router as sign_ins
from app.petitions.routes import router as petitions
from app.signatures.confirm_page import router as confirm_page
from app.signatures.engine.engine import open_signing_engine
from app.signatures.me.routes import router as own_signatures
from app.signatures.me.service import SignatureKeeper
from app.signatures.moderation.routes import router as invalidations
from app.signatures.moderation.trends import open_trends
from app.signatures.routes import router as signatures
from app.signatures.routes import signing_router
from app.signatures.schemas import ConfirmationBody, SigningBody

# A request makes a hundred objects and no cycles: looking for some every 700 cost a tenth of the time of a signature.
GC_THRESHOLDS = (20_000, 20, 20)

ROUTERS = [
    health.router,
    api_docs.router,
    preview_page.router,
    organizations,
    consents,
    sign_ins,
    people_pages,
    me,
    campaigns,
    petitions,
    signing_router,
    signatures,
    confirm_page,
    own_signatures,
    invalidations,
    partners,
]


def create_api(settings: Settings) -> FastAPI:
    """The application without its skin: what tests reach into and what describes itself."""
    api = FastAPI(
        title="Multitude",
        version=version("multitude"),
        summary="The backend of a movement: petitions counted exactly, groups found nearby.",
        lifespan=lifespan,
        webhooks=told,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        # Its log records carry exception messages, which quote rows; our own metrics do the rest.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    api.state.settings = settings
    api.state.recognizers = {PREFIX: recognize}
    middleware.install(api)
    api.add_middleware(BodyLimit, limit=settings.max_body_bytes, own=LARGE)
    for router in ROUTERS:
        api.include_router(router)
    describe(api, read_by_hand=[SigningBody, ConfirmationBody, PartnerSigning])
    return api


def create_app(settings: Settings | None = None) -> Asgi:
    """What a server serves."""
    settings = settings or Settings()
    logs.configure(settings.log_level, settings.log_format)
    return wrap_middleware(create_api(settings))


def wrap_middleware(api: FastAPI) -> Asgi:
    """Put the fast lane, CORS and the skin around the application."""
    app: Asgi = FastLane(api, [signing_router])
    origins = api.state.settings.cors_origins
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "X-Request-Id", "Retry-After"],
        )
    return middleware.RequestMiddleware(app)


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Open what the process needs when it starts, and close it, in order, when it ends."""
    settings: Settings = api.state.settings
    database = Database(settings.database_url.get_secret_value(), pool_size=settings.database_pool_size)
    try:
        async with database.transaction() as session:
            await key_ring_guard.ensure_key_ring(session, settings.key_ring.fingerprint())
    except (SQLAlchemyError, OSError) as error:
        # No database yet, or no schema: start all the same, `/readyz` says so, and every lane is guarded again.
        logs.log.warning("started without a ready database", **logs.failure_of(error))
    api.state.database = database
    # A pool of its own: a crowd on the ordinary pages must not keep anybody from signing or counting.
    api.state.hot_database = Database(settings.database_url.get_secret_value(), pool_size=2, name="hot")
    api.state.limiter = open_limiter(settings)
    api.state.hot = open_signing_engine(settings, api.state.hot_database, api.state.limiter)
    api.state.addresses, api.state.trusted_proxies = api.state.hot.addresses, api.state.hot.proxies
    api.state.desk = open_inbound_services(settings, database, api.state.hot)
    api.state.trends = open_trends(database, settings.key_ring)
    api.state.keepers = [SignatureKeeper(api.state.hot, database)]
    # What is there by now stays for good: the collector need not look at it again with every crowd.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        with on_shutdown(api.state.hot.streams.close):
            yield
    finally:
        await api.state.desk.close()
        await api.state.hot.close()
        await api.state.limiter.close()
        await api.state.hot_database.close()
        await database.close()


def _operation_id(route: APIRoute) -> str:
    return route.name
