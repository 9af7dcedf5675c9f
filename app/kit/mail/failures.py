"""Mail failures: the last failure of every mail that is not sent, kept beside its row, in a table of its own.

A room's own table says that a mail is due. Why it was not sent stands here, under the name of its source and the id of
its row, so that a table with many rows needs neither a column nor an index for what hardly any row has. It is written
in the transaction that settles the mail. No personal data: ids and words of ours.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, SmallInteger, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.session import Base
from app.kit.mail.outcome import NOT_NEEDED, Outcome
from app.kit.mail.sender import Result

STATES = ("waiting", "failed")
BATCH = 500
# No source waits for more than six hours between two attempts. Behind an older failure that waits stands a mail that is
# not due any more (confirmed by now, withdrawn, activated), or one that has been given back unbegun ever since: its
# next failure is recorded anew.
_KEPT = {"waiting": timedelta(hours=7), "failed": timedelta(days=30)}


class MailFailure(Base):
    """Why one mail was not sent when it was last tried.

    `waiting`: it is tried again. `failed`: it never will be. The row is deleted when the mail is sent or not needed any
    more, when its recipient is erased, and so long after the last failure: 7 hours if it waits, else 30 days.
    """

    __tablename__ = "mail_failures"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        # Staff read how many there are of each.
        Index("ix_mail_failures__group", "source", "kind", "state", "reason"),
        # Old ones are deleted, sooner while they wait.
        Index("ix_mail_failures__state_last_failed_at", "state", "last_failed_at"),
    )

    source: Mapped[str] = mapped_column(primary_key=True)
    mail_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    first_failed_at: Mapped[datetime]
    last_failed_at: Mapped[datetime]


# If the failure on record was final, this is a new mail under the same id: its failures begin anew.
_RECORD = text("""
    INSERT INTO mail_failures AS f
        (source, mail_id, kind, state, reason, attempt, first_failed_at, last_failed_at)
    SELECT :source, n.mail_id, n.kind, n.state, n.reason, n.attempt, :now, :now
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:states AS text[]), CAST(:reasons AS text[]),
        CAST(:attempts AS smallint[])
    ) AS n (mail_id, kind, state, reason, attempt)
    ORDER BY n.mail_id
    ON CONFLICT (source, mail_id) DO UPDATE SET
        kind = excluded.kind, state = excluded.state, reason = excluded.reason, attempt = excluded.attempt,
        first_failed_at = CASE WHEN f.state = 'failed' THEN excluded.first_failed_at ELSE f.first_failed_at END,
        last_failed_at = excluded.last_failed_at
""")
_DELETE = text("DELETE FROM mail_failures WHERE source = :source AND mail_id = ANY(:ids)")
# Not the final failure of an earlier mail under the same id.
_DELETE_WAITING = text("""
    DELETE FROM mail_failures WHERE source = :source AND mail_id = ANY(:ids) AND state = 'waiting'
""")
# If a reason is on record it says more than that there was no further attempt.
_GIVE_UP = text("""
    INSERT INTO mail_failures (source, mail_id, kind, state, reason, attempt, first_failed_at, last_failed_at)
    SELECT :source, n.mail_id, n.kind, 'failed', n.reason, n.attempt, :now, :now
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:reasons AS text[]), CAST(:attempts AS smallint[])
    ) AS n (mail_id, kind, reason, attempt)
    ORDER BY n.mail_id
    ON CONFLICT (source, mail_id) DO UPDATE SET state = 'failed'
""")
# Materialized, so that it is run once: a plan may run a subquery of IN for each row, each time locking others.
_FORGET = text("""
    WITH old AS MATERIALIZED (
        SELECT source, mail_id FROM mail_failures WHERE state = :state AND last_failed_at < :oldest
        ORDER BY last_failed_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM mail_failures AS f USING old WHERE f.source = old.source AND f.mail_id = old.mail_id
    RETURNING f.mail_id
""")


async def record(session: AsyncSession, source: str, results: Sequence[Result], given_up: Collection[UUID]) -> None:
    """Keep the reasons of those that failed, and forget those of mails that are over; `given_up`: not tried again."""
    failed = {one.claimed.id: one for one in results if is_failure(one)}
    if failed:
        states = {"states": [_state_of(one, given_up) for one in failed.values()]}
        await session.execute(_RECORD, _columns(source, list(failed.values())) | states)
    await forget(session, source, [one.claimed.id for one in results if _is_over(one)])


def is_failure(result: Result) -> bool:
    """Whether there is a reason to keep: it was tried, and neither sent nor found to be needless."""
    return result.reason not in {None, NOT_NEEDED}


def _is_over(result: Result) -> bool:
    """Whether it was sent, or need not be, and there is a failure to forget."""
    return result.claimed.has_failed and (result.outcome is Outcome.SENT or result.reason == NOT_NEEDED)


def _state_of(result: Result, given_up: Collection[UUID]) -> str:
    return "failed" if result.outcome is Outcome.REFUSED or result.claimed.id in given_up else "waiting"


def _columns(source: str, failed: Sequence[Result]) -> dict[str, object]:
    return {
        "source": source,
        "ids": [one.claimed.id for one in failed],
        "kinds": [one.claimed.kind for one in failed],
        "reasons": [one.reason for one in failed],
        "attempts": [one.claimed.attempt for one in failed],
        "now": now(),
    }


async def failed_before(session: AsyncSession, source: str, ids: Collection[UUID]) -> set[UUID]:
    """Which of these mails have a failure on record."""
    query = select(MailFailure.mail_id).where(MailFailure.source == source, MailFailure.mail_id.in_(ids))
    return set(await session.scalars(query)) if ids else set()


async def give_up(session: AsyncSession, source: str, results: Sequence[Result]) -> None:
    """The mails of these are not tried again; of those that failed before the last reason stays."""
    if results:
        await session.execute(_GIVE_UP, _columns(source, results))


async def forget(session: AsyncSession, source: str, ids: Collection[UUID]) -> None:
    """Delete the failures of these mails: they are sent, or their recipient is erased."""
    if ids:
        await session.execute(_DELETE, {"source": source, "ids": sorted(ids)})


async def forget_waiting(session: AsyncSession, source: str, ids: Collection[UUID]) -> None:
    """Delete the failures of these mails that were to be tried again, and need not be."""
    if ids:
        await session.execute(_DELETE_WAITING, {"source": source, "ids": sorted(ids)})


async def forget_mail_failures(session: AsyncSession) -> Sequence[UUID]:
    """Delete up to `BATCH` failures of each state that are too old; the ids of their mails."""
    forgotten: list[UUID] = []
    for state, kept in _KEPT.items():
        values = {"state": state, "oldest": now() - kept, "limit": BATCH}
        forgotten += await session.scalars(_FORGET, values)
    return forgotten
