"""What this room brings to the doors."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from app.kit.abuse.address_digests import ClientIpDigester
from app.kit.abuse.protection import AbuseProtection
from app.kit.database.session import Database
from app.kit.mail.sender import MailSource
from app.kit.mail.templates import MailTemplates
from app.kit.room_interface import Room, Services, Sweep
from app.kit.shutdown import on_shutdown
from app.signatures import routes
from app.signatures.background import consents, mails, runner
from app.signatures.background.consents import ConsentRecorder
from app.signatures.background.mails import SignatureMails
from app.signatures.background.milestones import mark_reached
from app.signatures.background.withdrawal_messages import WithdrawalMessages
from app.signatures.confirmation import pages as confirmation_pages
from app.signatures.confirmation import routes as confirmation_routes
from app.signatures.key_rotation import ATTEMPTS, DIGESTED, INVALIDATIONS, SIGNATURES
from app.signatures.me import routes as me_routes
from app.signatures.me.service import SignatureStore
from app.signatures.moderation import routes as moderation_routes
from app.signatures.moderation.on_hold import SharedAddresses
from app.signatures.moderation.trends import BrinMaintenance, Trends
from app.signatures.reading.published import TallyPublisher
from app.signatures.schemas import ConfirmationBody, SigningBody
from app.signatures.services import SigningServices, open_signing_services
from app.signatures.settings import SigningSettings


@asynccontextmanager
async def _open(services: Services) -> AsyncIterator[SigningServices]:
    settings = services.settings_as(SigningSettings)
    # A pool of its own: a crowd on the ordinary pages must not keep anybody from signing or counting.
    database = Database(settings.database_url.get_secret_value(), pool_size=2, name="hot")
    digester = ClientIpDigester(settings.key_ring, database)
    opened = open_signing_services(settings, database, replace(services.of(AbuseProtection), digester=digester))
    try:
        with on_shutdown(opened.streams.close):
            yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def _open_trends(services: Services) -> AsyncIterator[Trends]:
    yield Trends(services.database, services.key_ring)


@asynccontextmanager
async def _open_shared_addresses(services: Services) -> AsyncIterator[SharedAddresses]:
    yield SharedAddresses(services.database, services.settings_as(SigningSettings).address_limit)


def _sweeps(services: Services) -> Sequence[Sweep]:
    """The lock names are those of earlier versions, which may run beside this one."""
    ring = services.key_ring
    return [
        Sweep("mark_reached", mark_reached),
        # First: of whoever has withdrawn and signs again the withdrawal is told before the new signature.
        Sweep("withdrawal_messages", WithdrawalMessages(ring), lock_name="tell_withdrawals"),
        Sweep("enter_consents", ConsentRecorder(ring)),
        Sweep("published_tallies", TallyPublisher(ring)),
        Sweep("brin_maintenance", BrinMaintenance(), lock_name="summarize"),
    ]


def _mail_sources(services: Services, templates: MailTemplates) -> Sequence[MailSource]:
    limiter = services.of(AbuseProtection).limiter
    return [SignatureMails(services.database, services.settings_as(SigningSettings), templates, limiter)]


ROOM = Room(
    name="signatures",
    routers=[
        routes.signing_router,
        routes.router,
        confirmation_routes.router,
        confirmation_pages.router,
        me_routes.router,
        moderation_routes.router,
    ],
    fast_lane=[routes.signing_router],
    hand_read_bodies=[SigningBody, ConfirmationBody],
    api_services=[_open, _open_trends, _open_shared_addresses],
    personal_data=SignatureStore,
    sealed_columns=[SIGNATURES, ATTEMPTS, INVALIDATIONS],
    digested_tables=DIGESTED,
    sweeps=_sweeps,
    background=[runner.work],
    mail_sources=_mail_sources,
    # Of withdrawals that are to be told no column says since when.
    oldest_due={"signatures' mails": mails.OLDEST_DUE, "consents": consents.OLDEST_DUE, runner.NAME: runner.OLDEST_DUE},
)
