"""What the worker carries out slice by slice: invalidations, releases, retention.

It looks, as the sweeps do, and takes a lane only while there is something to do. Every slice is a short transaction of
its own; what is urgent comes first, from slice to slice.
"""

import asyncio

from sqlalchemy import text

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.settings import Settings
from app.signatures.engine import lanes
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import Passes, Unreadable
from app.signatures.moderation import apply, held, retention
from app.signatures.moderation.retention import Watch

_DUE = text(f"SELECT {apply.DUE} OR {held.DUE} OR {retention.DUE}")


async def work(database: Database, settings: Settings, ring: KeyRing, ending: asyncio.Event) -> None:
    """Carry out what there is until `ending` is set."""
    unreadable, watch = Unreadable(), Watch()
    while not ending.is_set():
        try:
            await _work_off(database, ring, unreadable, watch, ending)
        except Exception as error:  # noqa: BLE001 - what was committed is kept, the rest is tried again
            log.warning("a job was interrupted", **failure_of(error))
        await _pause(ending, settings.sweep_seconds)


async def _work_off(
    database: Database, ring: KeyRing, unreadable: Unreadable, watch: Watch, ending: asyncio.Event
) -> None:
    """Slice after slice until there is none left; whoever is asked to end finishes the slice under way."""
    async with database.transaction() as session:
        await watch(session)
        if not (await session.scalars(_DUE, {"passed_over": unreadable.ids()})).one():
            return
    lane = await lanes.claim(database, ring.fingerprint())
    try:
        passes, done = Passes(unreadable), 0
        while not ending.is_set() and await work_slice(lane, ring, passes):
            done += 1
        await lane.release()
    except BaseException:
        lane.drop()
        raise
    log.info("slices done", slices=done)


async def work_slice(lane: Lane, ring: KeyRing, passes: Passes) -> bool:
    """One slice of what comes first; False when there is nothing to do, or others are at it."""
    return (
        await apply.carry_on(lane, ring, passes.unreadable)
        or await held.carry_on(lane, passes)
        or await retention.carry_on(lane, passes)
    )


async def _pause(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return
