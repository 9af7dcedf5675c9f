"""The background runner: the worker's loop that carries out invalidations, releases and retention, chunk by chunk.

It looks for work every few seconds, as the sweeps do, and holds a lane only while there is some. Every chunk is a short
transaction of its own. Before each chunk the most urgent work is chosen anew, in this order.
"""

import asyncio
import time

from sqlalchemy import text

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.logs import log
from app.kit.room_interface import Services
from app.kit.sweeps import failing_names, forget_failure, record_failure
from app.kit.waiting import wait_for_event
from app.signatures.engine import lanes
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import ScanProgress, UnreadableRules
from app.signatures.moderation import apply, on_hold, retention
from app.signatures.moderation.retention import RetentionMonitor

_DUE = text(f"SELECT {apply.DUE} OR {on_hold.DUE} OR {retention.DUE}")
# Since when the oldest of it waits: for an invalidation since its last chunk, for a release since it was asked for, for
# retention since the day.
OLDEST_DUE = text(f"""
    SELECT least(
        (SELECT min(updated_at) FROM invalidations WHERE state IN ('applying', 'undoing')),
        (SELECT min(release_held_before) FROM petitions),
        ({retention.OLDEST_DUE})
    )
""")
# Its name among the sweeps that fail.
NAME = "runner"


async def work(services: Services, ending: asyncio.Event) -> None:
    """Carry out what is due until `ending` is set."""
    unreadable, monitor = UnreadableRules(), RetentionMonitor()
    while not ending.is_set():
        await _round(services, unreadable, monitor, ending)
        await wait_for_event(ending, services.settings.sweep_seconds)


async def _round(
    services: Services, unreadable: UnreadableRules, monitor: RetentionMonitor, ending: asyncio.Event
) -> None:
    """One round; if it fails, that is kept as a sweep's failure is, until a round succeeds."""
    database, began = services.database, time.perf_counter()
    try:
        has_run = await _run_due(database, services.key_ring, unreadable, monitor, ending)
    except Exception as error:  # noqa: BLE001 - what was committed stays, the rest is tried again
        seconds = time.perf_counter() - began
        await record_failure(database, NAME, error, seconds, event="a job was interrupted")
        return
    if has_run and NAME in await failing_names(database):
        await forget_failure(database, NAME)


async def _run_due(
    database: Database, ring: KeyRing, unreadable: UnreadableRules, monitor: RetentionMonitor, ending: asyncio.Event
) -> bool:
    """Run chunk after chunk until nothing is due; False when something is due and other workers are doing it.

    When `ending` is set, the current chunk is still finished.
    """
    async with database.transaction() as session:
        await monitor(session)
        if not (await session.scalars(_DUE, {"passed_over": unreadable.ids()})).one():
            return True
    lane = await lanes.claim(database, ring.fingerprint())
    try:
        progress, done = ScanProgress(unreadable), 0
        while not ending.is_set() and await run_chunk(lane, ring, progress):
            done += 1
        await lane.release()
    except BaseException:
        lane.drop()
        raise
    log.info("slices done", slices=done)
    return done > 0


async def run_chunk(lane: Lane, ring: KeyRing, progress: ScanProgress) -> bool:
    """One chunk of the most urgent work; False when there is none, or other workers are doing it."""
    return (
        await apply.apply_next(lane, ring, progress.unreadable)
        or await on_hold.release_next(lane, progress)
        or await retention.anonymize_next(lane, progress)
    )
