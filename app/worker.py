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
from app.kit.addresses import forget_salts
from app.kit.db import Database
from app.kit.dispatch import Dispatcher, Source
from app.kit.limiting import open_limiter
from app.kit.logs import failure_of, log
from app.kit.mail import Post
from app.kit.post import open_post
from app.kit.sealing import KeyRing
from app.kit.settings import Settings
from app.kit.texts import Texts
from app.partners.forgetting import forget_webhooks
from app.partners.outbound.catching_up import CatchingUp
from app.partners.outbound.delivering import deliver
from app.partners.outbound.mailing import EndpointMails
from app.partners.outbound.spreading import spread
from app.people.consents import Ledger
from app.people.forgetting import forget_people
from app.people.mailing import PeopleMails
from app.people.sessions import forget_sign_ins
from app.petitions.service import turn_pages
from app.signatures import jobs, ledger
from app.signatures.mailing import SignatureMails
from app.signatures.milestones import mark_reached
from app.signatures.own import Signers
from app.signatures.telling import Telling
from app.signatures.trends import Summarizing

Sweep = Callable[[AsyncSession], Awaitable[Sequence[object]]]

# First half of the advisory locks' names: "swee" in ASCII.
_LOCK_SPACE = 0x73776565
# A sweep that has done as much as this may have left something: it goes on at once.
_FULL = ledger.BATCH
_MOST_AT_ONCE = 20


def sweeps_of(ring: KeyRing) -> dict[str, Sweep]:
    """What is looked for in every round, in this order: a petition that opens may reach a milestone in the next."""
    return {
        "turn_pages": turn_pages,
        "mark_reached": mark_reached,
        # First: of whoever has withdrawn and signs again the withdrawal is told before the new signature.
        "tell_withdrawals": Telling(ring),
        "enter_consents": ledger.Entering(ring),
        # Before what it announces is spread.
        "catch_up": CatchingUp(),
        "spread": spread,
        "forget_salts": forget_salts,
        "forget_sign_ins": forget_sign_ins,
        "forget_people": forget_people,
        "forget_webhooks": forget_webhooks,
        "summarize": Summarizing(),
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
    post = open_post(settings)
    if post is None:
        log.warning("no mail can be sent: set SMTP_URL")
    if settings.smtp_url is not None and settings.is_local:
        log.warning("links in mails lead nowhere: set PUBLIC_URL")
    dispatchers = _dispatchers(database, settings, post)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_sweep(database, settings, ending))
            tasks.create_task(jobs.work(database, settings, settings.key_ring, ending))
            tasks.create_task(deliver(database, settings, ending))
            for dispatcher in dispatchers:
                tasks.create_task(dispatcher.run(ending, settings.sweep_seconds))
    finally:
        if post is not None:
            await post.close()
        await database.close()


def _dispatchers(database: Database, settings: Settings, post: Post | None) -> list[Dispatcher]:
    if post is None:
        return []
    texts, limiter = Texts(settings.mail_texts_dir), open_limiter(settings)
    sources: list[Source] = [
        SignatureMails(database, settings, texts, limiter),
        PeopleMails(database, settings, texts, limiter, [Signers(), Ledger()]),
        EndpointMails(database, settings, texts),
    ]
    return [Dispatcher(source, post, settings.mail_connections) for source in sources]


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
