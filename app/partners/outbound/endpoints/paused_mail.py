"""The mail source of endpoints: that one has been paused, to whom its organization named for it, once for each pause.

The endpoint's own row says that the mail is due; the skeleton is `kit/mail/source.py`.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS
from app.kit.mail.source import LeasedMails, MailDraft, MailRow, Taken
from app.partners.outbound.endpoints.sealed_config import EndpointConfig, open_config

_LEASE = timedelta(seconds=LEASE_SECONDS)
_PAUSE = timedelta(minutes=5)
# Who has activated the endpoint meanwhile need not be told, and nobody more often than this.
_GIVE_UP = text("""
    UPDATE webhook_endpoints SET mail_due_at = NULL
    WHERE mail_due_at <= :now AND (state <> 'paused' OR mail_count >= :most)
    RETURNING id, 'endpoint_paused' AS kind, mail_count, state = 'paused' AS is_paused
""")
# An array, made once: a plan may run a subquery of IN for each row, each time claiming others (seen: LIMIT 1, 5 rows).
_CLAIM = text("""
    UPDATE webhook_endpoints AS e SET mail_count = e.mail_count + 1, mail_due_at = :lease
    FROM organizations o
    WHERE o.id = e.organization_id AND e.id = ANY (ARRAY(
        SELECT id FROM webhook_endpoints WHERE mail_due_at <= :now ORDER BY mail_due_at LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    )) RETURNING e.id, 'endpoint_paused' AS kind, e.label, e.sealed, e.mail_count, o.name
""")
# Only if it has not been claimed again, nor activated, nor paused once more.
_STILL = """
    unnest(CAST(:ids AS uuid[]), CAST(:counts AS integer[])) AS n (id, mail_count)
    WHERE e.id = n.id AND e.mail_count = n.mail_count AND e.mail_due_at IS NOT NULL
"""
_LOCK = text(f"SELECT e.id FROM webhook_endpoints AS e, {_STILL} ORDER BY e.id FOR NO KEY UPDATE OF e")
_SETTLE = text(f"""
    UPDATE webhook_endpoints AS e SET mail_due_at = :due, mail_count = e.mail_count - :refund FROM {_STILL}
""")
# When the mail that is due longest became due; NULL when none is.
OLDEST_DUE = text("SELECT min(mail_due_at) FROM webhook_endpoints WHERE mail_due_at <= now()")


class _Opened(NamedTuple):
    """A claimed endpoint, opened."""

    row: MailRow
    config: EndpointConfig


class EndpointMails(LeasedMails[_Opened, None]):
    """The mail source of endpoints, one per worker."""

    name = "endpoints"

    async def _take(self, session: AsyncSession, limit: int, moment: datetime) -> Taken:
        given_up = (await session.execute(_GIVE_UP, {"now": moment, "most": MOST_SENDINGS})).all()
        rows = (await session.execute(_CLAIM, {"now": moment, "lease": moment + _LEASE, "limit": limit})).all()
        return Taken(
            rows,
            given_up=[row for row in given_up if row.is_paused],
            not_needed=[row for row in given_up if not row.is_paused],
        )

    def _open(self, row: MailRow) -> _Opened:
        return _Opened(row, open_config(self._ring, row.id, row.sealed))

    async def _look_up(self, session: AsyncSession, opened: Sequence[_Opened], moment: datetime) -> None:
        """The row holds it all."""

    def _draft(self, opened: _Opened, known: None) -> MailDraft | None:  # noqa: ARG002
        row, config = opened
        if config.contact is None:
            return None
        values = {"organization_name": row.name, "label": row.label or "", "endpoint_id": str(row.id)}
        message_id = f"{row.id.hex}.paused.{now():%Y%m%d}"
        return MailDraft(config.contact, config.contact_locale or "", values, message_id)

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
