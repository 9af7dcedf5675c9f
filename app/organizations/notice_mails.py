"""The mail source of notices to the operator's alert addresses; the skeleton is `kit/mail/source.py`."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.session import Database
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS
from app.kit.mail.source import LeasedMails, MailDraft, MailRow, Taken
from app.kit.mail.templates import MailTemplates
from app.organizations.settings import OrganizationSettings

_LEASE = timedelta(seconds=LEASE_SECONDS)
_PAUSE = timedelta(minutes=5)
_GIVE_UP = text("""
    UPDATE owner_notices SET due_at = NULL WHERE due_at <= :now AND mail_count >= :most
    RETURNING id, kind, mail_count
""")
# An array, made once: a plan may run a subquery of IN for each row, each time claiming others (seen: LIMIT 1, 5 rows).
_CLAIM = text("""
    UPDATE owner_notices SET mail_count = mail_count + 1, due_at = :lease WHERE id = ANY (ARRAY(
        SELECT id FROM owner_notices WHERE due_at <= :now ORDER BY due_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
    )) RETURNING id, kind, recipient, content, mail_count
""")
# Only if it has not been claimed again.
_STILL = """
    unnest(CAST(:ids AS uuid[]), CAST(:counts AS smallint[])) AS n (id, mail_count)
    WHERE o.id = n.id AND o.mail_count = n.mail_count AND o.due_at IS NOT NULL
"""
_LOCK = text(f"SELECT o.id FROM owner_notices AS o, {_STILL} ORDER BY o.id FOR NO KEY UPDATE OF o")
_SETTLE = text(
    f"UPDATE owner_notices AS o SET due_at = :due, mail_count = CAST(o.mail_count - :refund AS smallint) FROM {_STILL}"
)
# When the mail that is due longest became due; NULL when none is.
OLDEST_DUE = text("SELECT min(due_at) FROM owner_notices WHERE due_at <= now()")


class NoticeMails(LeasedMails[MailRow, None]):
    """The mail source of notices, one per worker."""

    name = "notices"

    def __init__(self, database: Database, settings: OrganizationSettings, templates: MailTemplates) -> None:
        super().__init__(database, settings, templates)
        self._addresses, self._locale = settings.alert_addresses, settings.alert_locale

    async def _take(self, session: AsyncSession, limit: int, moment: datetime) -> Taken:
        given_up = (await session.execute(_GIVE_UP, {"now": moment, "most": MOST_SENDINGS})).all()
        rows = (await session.execute(_CLAIM, {"now": moment, "lease": moment + _LEASE, "limit": limit})).all()
        return Taken(rows, given_up)

    def _open(self, row: MailRow) -> MailRow:
        return row

    async def _look_up(self, session: AsyncSession, opened: Sequence[MailRow], moment: datetime) -> None:
        """The row holds it all."""

    def _draft(self, opened: MailRow, known: None) -> MailDraft | None:  # noqa: ARG002
        # There may be fewer addresses by now.
        if opened.recipient >= len(self._addresses):
            return None
        return MailDraft(self._addresses[opened.recipient], self._locale, opened.content, f"{opened.id.hex}.notice")

    async def _done(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        await session.execute(_SETTLE, _columns(rows) | {"due": None, "refund": 0})

    async def _reschedule(
        self, session: AsyncSession, rows: Sequence[MailRow], *, refund_attempt: bool
    ) -> Collection[UUID]:
        await session.execute(_SETTLE, _columns(rows) | {"due": now() + _PAUSE, "refund": int(refund_attempt)})
        return ()

    async def _lock_due(self, session: AsyncSession, rows: Sequence[MailRow]) -> Collection[UUID]:
        return (await session.scalars(_LOCK, _columns(rows))).all()


def _columns(rows: Iterable[MailRow]) -> dict[str, object]:
    """The claimed rows as arrays, in the order of their ids, in which everybody locks them."""
    ordered = sorted(rows, key=lambda row: row.id)
    return {"ids": [row.id for row in ordered], "counts": [row.mail_count for row in ordered]}
