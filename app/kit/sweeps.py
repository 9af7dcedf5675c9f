"""Sweeps: periodic jobs that nobody enqueues. The worker runs all of them, one round after the other.

A sweep looks in the database for what is due, does up to a batch of it in one transaction, and says what it did. It
runs under an advisory lock of its transaction, so that two workers never do the same sweep at once. The lock is named
by `lock_name`, or by `name`. When you rename a sweep, set `lock_name` to the old name: workers of two versions may run
at once. A sweep that fails is tried again in the next round. Its last failure is kept in `sweep_failures` until it
succeeds.
"""

import asyncio
import time
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit import metrics
from app.kit.clock import now
from app.kit.database.session import Base, Database
from app.kit.logs import failure_of, log
from app.kit.room_interface import Sweep
from app.kit.web.errors import is_unreachable

# First half of the advisory locks' names: "swee" in ASCII.
_LOCK_SPACE = 0x73776565
# The smallest batch of any sweep. One that has done as much may have left something: it goes on at once.
FULL_BATCH = 500
_MOST_AT_ONCE = 20
_KEPT = timedelta(days=30)
_UNREACHABLE = "database-unreachable"
# By the beginning of PostgreSQL's error code.
_REASONS = {
    "55P03": "lock-timeout",
    "57014": "statement-timeout",
    "40P01": "deadlock",
    "42": "schema-behind",
    "22": "refused",
    "23": "refused",
}


class SweepFailure(Base):
    """Why a sweep failed the last time, and since when it has been failing. The row goes when it succeeds."""

    __tablename__ = "sweep_failures"

    sweep: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    first_failed_at: Mapped[datetime]
    last_failed_at: Mapped[datetime]


_FAILING = text("SELECT sweep FROM sweep_failures")
_RECORD = text("""
    INSERT INTO sweep_failures (sweep, reason, first_failed_at, last_failed_at) VALUES (:sweep, :reason, :now, :now)
    ON CONFLICT (sweep) DO UPDATE SET reason = excluded.reason, last_failed_at = excluded.last_failed_at
""")
_FORGET = text("DELETE FROM sweep_failures WHERE sweep = :sweep")
_FORGET_OLD = text("DELETE FROM sweep_failures WHERE last_failed_at < :oldest RETURNING sweep")
_LOCK = text("SELECT pg_try_advisory_xact_lock(:space, :number)")


async def sweep_once(database: Database, sweeps: Sequence[Sweep], ending: asyncio.Event | None = None) -> None:
    """One round of all sweeps, each in transactions of its own; a backlog is worked off over several rounds."""
    failing = await failing_names(database)
    for sweep in sweeps:
        began = time.perf_counter()
        try:
            has_run = await _run(database, sweep, ending)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            await record_failure(database, sweep.name, error, time.perf_counter() - began)
            continue
        if has_run and sweep.name in failing:
            await forget_failure(database, sweep.name)


async def _run(database: Database, sweep: Sweep, ending: asyncio.Event | None) -> bool:
    """Do what is due, batch after batch; whether any batch was ours to do."""
    has_run = False
    for _ in range(_MOST_AT_ONCE):
        if ending and ending.is_set():
            break
        changed = await _swept(database, sweep)
        has_run = has_run or changed is not None
        if changed is None or changed < FULL_BATCH:
            break
    return has_run


async def _swept(database: Database, sweep: Sweep) -> int | None:
    """One batch; how much was changed, None when another worker is at it."""
    began = time.perf_counter()
    async with database.transaction() as session:
        if not await session.scalar(_LOCK, {"space": _LOCK_SPACE, "number": _lock_of(sweep)}):
            return None
        changed = len(await sweep.run(session))
    if changed:
        log.info("swept", sweep=sweep.name, changed=changed, seconds=round(time.perf_counter() - began, 4), end="done")
    return changed


def _lock_of(sweep: Sweep) -> int:
    """Second half of a sweep's lock, 32 bits with a sign: the same in every version that has a sweep of this name."""
    return zlib.crc32((sweep.lock_name or sweep.name).encode()) - (1 << 31)


async def record_failure(
    database: Database, name: str, error: Exception, seconds: float, *, event: str = "sweep failed"
) -> None:
    """Log and count the failure of a sweep, or of other work that is done in rounds, and keep its reason."""
    reason = reason_of(error)
    metrics.sweep_failures.labels(name).inc()
    log.warning(event, sweep=name, seconds=round(seconds, 4), end="failed", reason=reason, **failure_of(error))
    # Without the database it stands in the log alone: another attempt to connect would hold up the round.
    if reason == _UNREACHABLE:
        return
    try:
        await _execute(database, _RECORD, sweep=name, reason=reason, now=now())
    except Exception as unrecorded:  # noqa: BLE001 - it was logged
        log.warning("sweep failure cannot be recorded", sweep=name, **failure_of(unrecorded))


async def forget_failure(database: Database, name: str) -> None:
    """Delete the failure of what has succeeded. If that fails, the next round that succeeds tries again."""
    try:
        await _execute(database, _FORGET, sweep=name)
    except Exception as error:  # noqa: BLE001 - the work itself is done
        log.warning("sweep failure cannot be forgotten", sweep=name, **failure_of(error))


def reason_of(error: BaseException) -> str:
    """A short code for why a sweep failed; a driver's message quotes the row, and is not used."""
    state = str(getattr(error.orig, "sqlstate", "") or "") if isinstance(error, DBAPIError) else ""
    # First: a statement that took too long is of the same class as a database that is shutting down.
    if known := next((reason for code, reason in _REASONS.items() if state.startswith(code)), None):
        return known
    return _UNREACHABLE if is_unreachable(error) else "failed"


async def forget_sweep_failures(session: AsyncSession) -> Sequence[str]:
    """Delete the failures of sweeps that have not failed for 30 days: this version does not have them any more."""
    return (await session.scalars(_FORGET_OLD, {"oldest": now() - _KEPT})).all()


async def failing_names(database: Database) -> set[str]:
    """The names of what has failed and not succeeded since."""
    try:
        async with database.transaction() as session:
            return set(await session.scalars(_FAILING))
    except Exception:  # noqa: BLE001 - the sweeps of this round will say so themselves
        return set()


async def _execute(database: Database, statement: TextClause, **values: object) -> None:
    async with database.transaction() as session:
        await session.execute(statement, values)
