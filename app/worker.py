"""The worker's door: sweeps that write down what time and the tallies have decided.

Nothing is handed to the worker: it looks. A round that fails is logged and tried again in the next; two workers do
not get in each other's way, since each sweep runs under an advisory lock of its transaction.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import logs
from app.kit.db import Database
from app.kit.logs import failure_of, log
from app.kit.settings import Settings
from app.petitions.service import turn_pages
from app.signatures.milestones import mark_reached

Sweep = Callable[[AsyncSession], Awaitable[Sequence[object]]]

# In this order: a petition that opens in this round may reach a milestone in the next.
SWEEPS: dict[str, Sweep] = {"turn_pages": turn_pages, "mark_reached": mark_reached}
# First half of the advisory locks' names: "swee" in ASCII.
_LOCK_SPACE = 0x73776565


async def sweep_once(database: Database) -> None:
    """One round of all sweeps, each in a transaction of its own."""
    for number, (name, sweep) in enumerate(SWEEPS.items()):
        try:
            async with database.transaction() as session:
                free = await session.scalar(
                    text("SELECT pg_try_advisory_xact_lock(:space, :number)"),
                    {"space": _LOCK_SPACE, "number": number},
                )
                changed = await sweep(session) if free else []
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("sweep failed", sweep=name, **failure_of(error))
            continue
        if changed:
            log.info("swept", sweep=name, changed=len(changed))


async def work(settings: Settings, ending: asyncio.Event) -> None:
    """Sweep until `ending` is set."""
    database = Database(settings.database_url.get_secret_value(), pool_size=2, name="worker")
    try:
        while not ending.is_set():
            await sweep_once(database)
            await _pause(ending, settings.sweep_seconds)
    finally:
        await database.close()


async def _pause(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; the round under way is finished first."""
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(_until_signal(settings))


async def _until_signal(settings: Settings) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await work(settings, ending)
