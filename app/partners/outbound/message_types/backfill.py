"""Backfill: consents given with a signature that nobody has announced are announced, so that they are told of too.

Those are what was entered before this was installed, and what processes of the version before entered while they still
ran. `multitude backfill` walks the ledger once, from its beginning up to some minutes ago. Ids hold the time at which
they were made; whoever made one has committed within these minutes, or never does.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.outbox import NewMessage, publish
from app.people.consents.service import CONSENT_GIVEN

# Entries looked at by one statement, and how many of those in a transaction.
SLICE = 5000
_SLICES = 5
# While as many wait in the outbox, the backfill waits too: what happens now is told first.
_MANY = 10_000
# A transaction is over long before.
_BEHIND = timedelta(minutes=10)
_BEGINNING = UUID(int=0)
_IS_BUSY = text("SELECT count(*) >= :many FROM (SELECT FROM outbox_messages LIMIT :many) AS waiting")
_WALK = text("""
    SELECT c.id, c.organization_id,
        c.given AND c.petition_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM signer_feed_entries f WHERE f.consent_id = c.id) AS has_no_number
    FROM consents c WHERE c.id > :behind AND c.id < :until ORDER BY c.id LIMIT :slice
""")
# What waits in the outbox has no number yet. What is taken out at this moment is announced again: no harm is done.
_WAITING = text(f"SELECT content ->> 'consent_id' FROM outbox_messages WHERE type = '{CONSENT_GIVEN}'")


# Id, organization, and whether it has no number.
_Row: TypeAlias = Row[Any, Any, Any]


class Backfill:
    """One walk through the ledger. Harmless to repeat: a consent has one number only."""

    def __init__(self) -> None:
        self._behind = _BEGINNING
        self.is_complete = False
        self.is_waiting = False

    async def step(self, session: AsyncSession) -> Sequence[UUID]:
        """Walk on until there is something to announce, or nothing more; the consents that were announced.

        Sets `is_complete` at the end of the ledger, and `is_waiting` when the outbox is so full that nothing was done.
        """
        self.is_waiting = bool(await session.scalar(_IS_BUSY, {"many": _MANY}))
        if self.is_waiting:
            return []
        values = {"until": _earliest_of_now(), "slice": SLICE}
        for _ in range(_SLICES):
            rows = (await session.execute(_WALK, values | {"behind": self._behind})).all()
            missing = await _unannounced(session, [row for row in rows if row.has_no_number])
            self.is_complete = not rows
            if missing or not rows:
                await publish(session, [_given(row.id, row.organization_id) for row in missing])
                # They are walked over again, once it is committed that they were announced.
                return [row.id for row in missing]
            self._behind = rows[-1].id
        return []


async def _unannounced(session: AsyncSession, rows: Sequence[_Row]) -> Sequence[_Row]:
    if not rows:
        return []
    waiting = set(await session.scalars(_WAITING))
    return [row for row in rows if str(row.id) not in waiting]


def _earliest_of_now() -> UUID:
    """Below every id (UUIDv7) that was made in the last minutes."""
    return UUID(int=int((now() - _BEHIND).timestamp() * 1000) << 80)


def _given(consent_id: UUID, organization_id: UUID) -> NewMessage:
    return NewMessage(CONSENT_GIVEN, {"consent_id": str(consent_id)}, organization_id)
