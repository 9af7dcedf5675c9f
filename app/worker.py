"""The worker's door: writes down what time and the tallies have decided, carries out rules, mails, delivers webhooks.

Nothing is handed to the worker: it looks. A round that fails is logged and tried again in the next; two workers do
not get in each other's way, since each sweep runs under an advisory lock of its transaction, and what is claimed by one
is passed over by the other.
"""

import asyncio
import signal
import zlib
from collections.abc import Awaitable, Callable, Sequence

import uvloop
from prometheus_client import start_http_server
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import logs
from app.kit.abuse.client_addresses import forget_salts
from app.kit.abuse.rate_limits import open_limiter
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.mail.message import MailTransport
from app.kit.mail.sender import MailSender, MailSource
from app.kit.mail.smtp import open_transport
from app.kit.mail.templates import MailTemplates
from app.kit.settings import Settings
from app.partners.outbound.delivery.worker import deliver
from app.partners.outbound.endpoints.paused_mail import EndpointMails
from app.partners.outbound.message_types.backfill import CatchingUp
from app.partners.outbound.message_types.fan_out import spread
from app.partners.retention import forget_webhooks
from app.people.account.sessions import forget_sign_ins
from app.people.consents.service import Ledger
from app.people.mailing import PeopleMails
from app.people.personal_data.retention import forget_people
from app.petitions.service import apply_scheduled_transitions
from app.signatures.background import consents, runner
from app.signatures.background.mails import SignatureMails
from app.signatures.background.milestones import mark_reached
from app.signatures.background.withdrawal_messages import WithdrawalMessages
from app.signatures.me.service import Signers
from app.signatures.moderation.trends import BrinMaintenance

Sweep = Callable[[AsyncSession], Awaitable[Sequence[object]]]

# First half of the advisory locks' names: "swee" in ASCII.
_LOCK_SPACE = 0x73776565
# A sweep that has done as much as this may have left something: it goes on at once.
_FULL = consents.BATCH
_MOST_AT_ONCE = 20


def sweeps_of(ring: KeyRing) -> dict[str, Sweep]:
    """What is looked for in every round, in this order: a petition that opens may reach a milestone in the next."""
    return {
        "turn_pages": apply_scheduled_transitions,
        "mark_reached": mark_reached,
        # First: of whoever has withdrawn and signs again the withdrawal is told before the new signature.
        "tell_withdrawals": WithdrawalMessages(ring),
        "enter_consents": consents.ConsentEntering(ring),
        # Before what it announces is spread.
        "catch_up": CatchingUp(),
        "spread": spread,
        "forget_salts": forget_salts,
        "forget_sign_ins": forget_sign_ins,
        "forget_people": forget_people,
        "forget_webhooks": forget_webhooks,
        "summarize": BrinMaintenance(),
    }


async def sweep_once(database: Database, sweeps: dict[str, Sweep], ending: asyncio.Event | None = None) -> None:
    """One round of all sweeps, each in transactions of its own; a backlog is worked off over several rounds."""
    for name, sweep in sweeps.items():
        try:
            for _ in range(_MOST_AT_ONCE):
                if (ending and ending.is_set()) or await _swept(database, name, sweep) < _FULL:
                    break
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("sweep failed", sweep=name, **failure_of(error))


def _lock_of(name: str) -> int:
    """Second half of a sweep's lock, 32 bits with a sign: the same in every version that has a sweep of this name."""
    return zlib.crc32(name.encode()) - (1 << 31)


async def _swept(database: Database, name: str, sweep: Sweep) -> int:
    async with database.transaction() as session:
        free = await session.scalar(
            text("SELECT pg_try_advisory_xact_lock(:space, :number)"), {"space": _LOCK_SPACE, "number": _lock_of(name)}
        )
        changed = await sweep(session) if free else []
    if changed:
        log.info("swept", sweep=name, changed=len(changed))
    return len(changed)


async def work(settings: Settings, ending: asyncio.Event) -> None:
    """Sweep, carry out rules, send mails and deliver webhooks until `ending` is set."""
    database = Database(settings.database_url.get_secret_value(), pool_size=5, name="worker")
    post = open_transport(settings)
    if post is None:
        log.warning("no mail can be sent: set SMTP_URL")
    if settings.smtp_url is not None and settings.is_local:
        log.warning("links in mails lead nowhere: set PUBLIC_URL")
    dispatchers = _dispatchers(database, settings, post)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_sweep(database, settings, ending))
            tasks.create_task(runner.work(database, settings, settings.key_ring, ending))
            tasks.create_task(deliver(database, settings, ending))
            for dispatcher in dispatchers:
                tasks.create_task(dispatcher.run(ending, settings.sweep_seconds))
    finally:
        if post is not None:
            await post.close()
        await database.close()


def _dispatchers(database: Database, settings: Settings, post: MailTransport | None) -> list[MailSender]:
    if post is None:
        return []
    texts, limiter = MailTemplates(settings.mail_texts_dir), open_limiter(settings)
    sources: list[MailSource] = [
        SignatureMails(database, settings, texts, limiter),
        PeopleMails(database, settings, texts, limiter, [Signers(), Ledger()]),
        EndpointMails(database, settings, texts),
    ]
    return [MailSender(source, post, settings.mail_connections) for source in sources]


async def _sweep(database: Database, settings: Settings, ending: asyncio.Event) -> None:
    sweeps = sweeps_of(settings.key_ring)
    while not ending.is_set():
        await sweep_once(database, sweeps, ending)
        await _pause(ending, settings.sweep_seconds)


async def _pause(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; the round under way is finished first."""
    logs.configure(settings.log_level, settings.log_format)
    if settings.worker_metrics_port is not None:
        start_http_server(settings.worker_metrics_port, "127.0.0.1")
    uvloop.run(_until_signal(settings))


async def _until_signal(settings: Settings) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await work(settings, ending)
