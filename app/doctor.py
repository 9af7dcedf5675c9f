"""Health checks for operators: what the service needs, whether it is there, and what to do when it is not.

They look and change nothing. `commands/doctor.py` shows them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.key_ring_guard import DigestKey, DigestRotationUnfinishedError, KeyRingMismatchError
from app.kit.crypto.key_strength import weakness_of
from app.kit.crypto.seal_counts import LIMIT, OVERDUE_AT, RENEW_AT, Sealed, sealed_by_current
from app.kit.crypto.sealing import parts_of
from app.kit.database.schema_version import current, head
from app.kit.database.session import Database
from app.kit.mail import outcome
from app.kit.mail.failures import MailFailure
from app.kit.mail.outcome import advice_on
from app.kit.mail.smtp import open_transport
from app.kit.problems import OperatorError
from app.kit.sweeps import SweepFailure
from app.organizations.models import ApiKey
from app.organizations.queries import live
from app.rooms import ROOMS
from app.settings import Settings

Status = Literal["ok", "warning", "wrong"]

# Work that has been due for so long is done by nobody.
_OVERDUE = timedelta(minutes=10)
# Failures of mails that are older say nothing about now.
_RECENT = timedelta(hours=1)
# An owner's key that ends within this is to be followed by another.
_SOON = timedelta(days=30)
# Seconds that the mail server has.
_PATIENCE = 15.0
_WORKER = "Is `multitude worker` running? Its log says what holds it up."


class Finding(NamedTuple):
    """What one check found. `advice`: what to do, when it is not `ok`."""

    check: str
    status: Status
    found: str
    advice: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Every check, one after the other. Without a database, or its schema, what stands in it is not looked at."""
    database = Database(settings.database_url.get_secret_value(), pool_size=2, name="doctor")
    try:
        found = await _database(database)
        yield found
        is_usable = found.status == "ok"
        if is_usable:
            found = await _schema(database)
            yield found
            is_usable = found.status == "ok"
        yield await _mail(settings)
        yield _alerts(settings)
        if settings.smtp_url is not None and settings.is_local:
            yield Finding("links", "warning", "Links in mails lead to this machine.", "Set PUBLIC_URL.")
        if is_usable:
            async for finding in _stored(settings, database):
                yield finding
    finally:
        await database.close()


async def _database(database: Database) -> Finding:
    began = time.perf_counter()
    try:
        async with database.transaction() as session:
            version = await session.scalar(text("SHOW server_version"))
    except (SQLAlchemyError, OSError):
        advice = "Check DATABASE_URL, and that PostgreSQL runs; `multitude up` starts one of its own."
        return Finding("database", "wrong", "The database cannot be reached.", advice)
    return Finding("database", "ok", f"PostgreSQL {version} answered in {1000 * (time.perf_counter() - began):.0f} ms.")


async def _schema(database: Database) -> Finding:
    revision = await current(database)
    if (revision or "") < head():
        found = f"The schema is at {revision or 'nothing'}, this version needs {head()}."
        return Finding("schema", "wrong", found, "Run `multitude migrate`.")
    return Finding("schema", "ok", f"The schema is at {revision}.")


async def _mail(settings: Settings) -> Finding:
    """Connect and log in, or try to write where mails are stored."""
    folder = settings.outbox_dir
    if settings.smtp_url is None and folder is None:
        return Finding("mail", "wrong", "No mail can be sent.", "Set SMTP_URL.")
    if settings.smtp_url is None and folder is not None and not folder.exists():
        return Finding("mail", "warning", f"{folder} is not there yet.", "The worker makes it when it starts.")
    try:
        reason = await _reason_against_mail(settings)
    except OperatorError as error:
        return Finding("mail", "wrong", outcome.OUTBOX_UNWRITABLE, str(error))
    if reason is not None:
        return Finding("mail", "wrong", f"No mail can be sent: {reason}.", advice_on(reason))
    found = "The mail server lets us in." if settings.smtp_url else f"Mails are stored in {folder}, and not sent."
    return Finding("mail", "ok", found)


def _alerts(settings: Settings) -> Finding:
    if not settings.alert_addresses:
        found = "Nobody is mailed when a key sees or destroys much, or when something final waits."
        return Finding("alerts", "warning", found, "Set MULTITUDE_ALERT_ADDRESSES.")
    return Finding("alerts", "ok", f"Alerts are mailed to {len(settings.alert_addresses)}.")


async def _reason_against_mail(settings: Settings) -> str | None:
    transport = open_transport(settings)
    if transport is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            return await transport.check()
    except TimeoutError:
        return outcome.TIMEOUT
    finally:
        await transport.close()


async def _stored(settings: Settings, database: Database) -> AsyncIterator[Finding]:
    """What the database says: whose keys it was filled with, what has failed, and what waits."""
    looks: list[Callable[[AsyncSession], Awaitable[list[Finding]]]] = [
        _api_keys,
        _mail_failures,
        _sweep_failures,
        _due_work,
    ]
    async with database.snapshot() as session:
        found = await _keys(settings, session)
        yield found
        if found.status == "ok":
            yield _separate_keys(settings)
            for one in await sealed_by_current(session, settings.key_ring):
                yield _seals(one)
        for look in looks:
            for finding in await look(session):
                yield finding


async def _keys(settings: Settings, session: AsyncSession) -> Finding:
    try:
        fingerprint = settings.key_ring.fingerprint()
    except ValueError as error:
        return Finding("keys", "wrong", f"{error}.", "Set MULTITUDE_SECRET_KEYS.")
    known = await session.scalar(select(DigestKey.fingerprint))
    if ">" in (known or ""):
        found = " ".join((DigestRotationUnfinishedError.__doc__ or "").split())
        return Finding("keys", "wrong", found, "Run `multitude keys rotate-digest`.")
    if known not in {None, fingerprint}:
        advice = "Find the keys that the database was filled with; never remove the fingerprint."
        return Finding("keys", "wrong", " ".join((KeyRingMismatchError.__doc__ or "").split()), advice)
    return Finding("keys", "ok", "The digest key is the one that the database was filled with.")


def _separate_keys(settings: Settings) -> Finding:
    """Whether what seals, what digests and what seals tokens are secrets of their own: else one leak is several."""
    digest = settings.digest_key.get_secret_value() if settings.digest_key else ""
    uses = (settings.secret_keys.get_secret_value(), digest, settings.token_keys.get_secret_value())
    of = [set(parts_of(use)) for use in uses]
    if weak := sum(weakness_of(key) is not None for key in set.union(*of)):
        found = f"{weak} older keys are easy to guess."
        return Finding("separate keys", "warning", found, "Rotate them out: docs/operations.md, Keys.")
    if all(of) and len(set.union(*of)) == sum(map(len, of)):
        return Finding("separate keys", "ok", "Rows, digests and tokens have keys of their own.")
    advice = (
        "Set MULTITUDE_DIGEST_KEY and MULTITUDE_TOKEN_KEYS as docs/operations.md, Keys, says; never just a new one."
    )
    return Finding("separate keys", "warning", "One secret is used for several of rows, digests and tokens.", advice)


def _seals(one: Sealed) -> Finding:
    status: Status = "wrong" if one.seal_count >= OVERDUE_AT else "warning" if one.seal_count >= RENEW_AT else "ok"
    found = f"The key of {one.purpose}s has sealed {one.seal_count:,} times, of {LIMIT:,} at the most."
    advice = "" if status == "ok" else "Renew it: docs/operations.md, Keys."
    return Finding(f"seals: {one.purpose}", status, found, advice)


async def _api_keys(session: AsyncSession) -> list[Finding]:
    """Keys that never expire, and whether an owner's key works for a while yet."""
    moment = now()
    endless = select(func.count()).where(ApiKey.revoked_at.is_(None), ApiKey.expires_at.is_(None))
    count = await session.scalar(endless) or 0
    found = []
    if count:
        advice = "Make new ones, and end these: an earlier version made them."
        found.append(Finding("API keys", "warning", f"{count} never expire.", advice))
    lasting = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment + _SOON)
    owners = select(ApiKey.id).where(ApiKey.role == "owner", live(moment), lasting).limit(1)
    if await session.scalar(owners) is None:
        advice = "Run `multitude keys create --organization movement --role owner`."
        found.append(Finding("API keys", "warning", "No owner's key works for another month.", advice))
    return found or [Finding("API keys", "ok", "All expire, and not every owner's key within a month.")]


async def _mail_failures(session: AsyncSession) -> list[Finding]:
    """Mails that failed lately and wait to be tried again, by reason."""
    query = (
        select(MailFailure.reason, func.count())
        .where(MailFailure.state == "waiting", MailFailure.last_failed_at > now() - _RECENT)
        .group_by(MailFailure.reason)
        .order_by(func.count().desc())
    )
    found = (await session.execute(query)).all()
    if not found:
        return [Finding("mail failures", "ok", "No mail that waits has failed in the last hour.")]
    return [
        Finding("mail failures", "wrong", f"{count} waiting, failed with {reason}.", advice_on(reason))
        for reason, count in found
    ]


async def _sweep_failures(session: AsyncSession) -> list[Finding]:
    failing = (await session.scalars(select(SweepFailure).order_by(SweepFailure.sweep))).all()
    if not failing:
        return [Finding("sweeps", "ok", "None is failing.")]
    advice = "The worker's log says where (`sweep failed`, `a job was interrupted`)."
    return [
        Finding("sweeps", "wrong", f"{one.sweep} fails since {_told(one.first_failed_at)}: {one.reason}.", advice)
        for one in failing
    ]


async def _due_work(session: AsyncSession) -> list[Finding]:
    """Since when the oldest due work waits, for each source and sweep that can tell."""
    statements = {name: statement for room in ROOMS for name, statement in room.oldest_due.items()}
    return [_due(name, await session.scalar(statement)) for name, statement in statements.items()]


def _due(name: str, since: datetime | None) -> Finding:
    if since is None:
        return Finding(f"due: {name}", "ok", "Nothing waits.")
    waiting = now() - since
    found = f"The oldest is due since {_told(since)} ({max(round(waiting.total_seconds()), 0):,} s)."
    is_late = waiting > _OVERDUE
    return Finding(f"due: {name}", "wrong" if is_late else "ok", found, _WORKER if is_late else "")


def _told(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")
