"""The worker's door: runs the sweeps and background tasks of every room, and sends the mails that are due.

There is no job queue: the worker polls the database for work that is due. A round that fails is logged and tried again
in the next. Two workers do not get in each other's way: each sweep runs under an advisory lock of its transaction, and
what is claimed by one is passed over by the other.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop

from app.kit import logs
from app.kit.database.session import Database
from app.kit.descriptors import raise_limit
from app.kit.logs import log
from app.kit.mail.check import check_transport
from app.kit.mail.message import MailTransport
from app.kit.mail.sender import MailSender
from app.kit.mail.settings import MailSettings
from app.kit.mail.smtp import open_transport
from app.kit.mail.templates import MailTemplates
from app.kit.metrics_server import serve_metrics
from app.kit.room_interface import Room, Services, Sweep, open_services
from app.kit.sweeps import sweep_once
from app.kit.waiting import wait_for_event
from app.rooms import ROOMS
from app.settings import Settings


def sweeps_of(services: Services) -> list[Sweep]:
    """What is looked for in every round, room by room: a petition that opens may reach a milestone in the next."""
    return [sweep for room in services.rooms if room.sweeps is not None for sweep in room.sweeps(services)]


@asynccontextmanager
async def worker_services(settings: Settings, rooms: Sequence[Room] = ROOMS) -> AsyncIterator[Services]:
    """What the worker holds open: a database, and what rooms open in every process."""
    database = Database(settings.database_url.get_secret_value(), pool_size=5, name="worker")
    try:
        openers = [opener for room in rooms for opener in room.services]
        async with open_services(Services(settings, database, rooms), openers) as services:
            yield services
    finally:
        await database.close()


async def work(settings: Settings, ending: asyncio.Event, rooms: Sequence[Room] = ROOMS) -> None:
    """Sweep, carry out rules, send mails and deliver webhooks until `ending` is set."""
    transport = open_transport(settings)
    if transport is None:
        log.warning("no mail can be sent: set SMTP_URL")
    if settings.smtp_url is not None and settings.is_local:
        log.warning("links in mails lead nowhere: set PUBLIC_URL")
    try:
        async with worker_services(settings, rooms) as services:
            # Before any task: an operator's broken mail text is told as it is, not as one of a group of errors.
            senders = _mail_senders(services, transport)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_sweep(services, ending))
                for room in rooms:
                    for task in room.background:
                        tasks.create_task(task(services, ending))
                if transport is not None:
                    tasks.create_task(check_transport(transport, ending))
                for sender in senders:
                    tasks.create_task(sender.run(ending, settings.sweep_seconds))
    finally:
        if transport is not None:
            await transport.close()


def _mail_senders(services: Services, transport: MailTransport | None) -> list[MailSender]:
    if transport is None:
        return []
    settings = services.settings_as(MailSettings)
    templates = MailTemplates(settings.mail_texts_dir)
    with_mails = [room.mail_sources for room in services.rooms if room.mail_sources is not None]
    sources = [source for mail_sources in with_mails for source in mail_sources(services, templates)]
    return [MailSender(source, transport, settings.mail_connections) for source in sources]


async def _sweep(services: Services, ending: asyncio.Event) -> None:
    sweeps = sweeps_of(services)
    while not ending.is_set():
        await sweep_once(services.database, sweeps, ending)
        await wait_for_event(ending, services.settings.sweep_seconds)


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; the round under way is finished first."""
    logs.configure(settings.log_level, settings.log_format)
    raise_limit()
    serve_metrics(
        settings.metrics_host,
        settings.worker_metrics_port,
        name="MULTITUDE_WORKER_METRICS_PORT",
        is_chosen="worker_metrics_port" in settings.model_fields_set,
    )
    uvloop.run(_until_signal(settings))


async def _until_signal(settings: Settings) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await work(settings, ending)
