"""Notices to the operator's alert addresses: a key that sees or destroys much, and an act that waits.

A sweep looks for both, logs each once, and leaves a row for each mail (`notice_mails.py`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import metrics
from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.logs import log
from app.organizations.models import NoticeKind, OwnerNotice
from app.organizations.principals import OPERATOR
from app.organizations.settings import OrganizationSettings

_KEPT = timedelta(days=30)
_NEWEST = text("SELECT max(number) FROM audit_entries")
# By the hours of the clock. The hour before is looked at too: its last entries may be younger than the last look.
# By key, and by first ancestor, together with all keys that were made with it: `is_family`.
_LARGE = text("""
    WITH RECURSIVE done AS (
        SELECT key_id, date_trunc('hour', at) AS hour, category,
            CASE category WHEN 'look' THEN sum(row_count) ELSE count(*) END AS row_count
        FROM audit_entries
        WHERE at >= date_trunc('hour', CAST(:now AS timestamptz)) - interval '1 hour'
            AND category IN ('look', 'destruction')
        GROUP BY 1, 2, 3
    ), line AS (
        SELECT id AS key_id, id, made_by FROM api_keys WHERE id IN (SELECT key_id FROM done)
        UNION SELECT line.key_id, k.id, k.made_by FROM api_keys AS k JOIN line ON k.id = line.made_by
    ), counted AS (
        SELECT key_id, hour, category, row_count, false AS is_family FROM done
        UNION ALL SELECT line.id, hour, category, sum(row_count), true FROM done JOIN line USING (key_id)
        WHERE line.made_by IS NULL OR line.made_by = :nobody
        GROUP BY 1, 2, 3 HAVING count(*) > 1
    ) SELECT * FROM counted
    WHERE row_count > CASE category WHEN 'look' THEN CAST(:names AS bigint) ELSE CAST(:destructions AS bigint) END
""")
_WAITING = text("""
    SELECT id, verb, object_kind, object_id, asked_by, due_at FROM pending_acts AS p
    WHERE state = 'waiting' AND NOT EXISTS (SELECT FROM owner_notices WHERE about = CAST(p.id AS text))
    ORDER BY due_at LIMIT 500
""")
_FORGET = text("DELETE FROM owner_notices WHERE created_at < :oldest RETURNING id")


class OwnerNotices:
    """The sweep, one per worker."""

    def __init__(self, settings: OrganizationSettings) -> None:
        self._settings = settings
        self._newest = -1

    async def __call__(self, session: AsyncSession) -> Sequence[UUID]:
        """Notice what is new; the ids of the notices."""
        made = await self._acts(session)
        newest = await session.scalar(_NEWEST) or 0
        if newest != self._newest:
            volumes = await self._volumes(session)
            # After the round in which nothing new was found: what was found may still be rolled back.
            self._newest = -1 if volumes else newest
            made += volumes
        await session.execute(_FORGET, {"oldest": now() - _KEPT})
        return made

    async def _volumes(self, session: AsyncSession) -> list[UUID]:
        settings, made = self._settings, list[UUID]()
        values = {
            "now": now(),
            "names": settings.alert_names_per_hour,
            "destructions": settings.alert_destructions_per_hour,
            "nobody": OPERATOR.key_id,
        }
        for row in await session.execute(_LARGE, values):
            who = str(row.key_id) if row.key_id else "command line"
            facts = {"key_id": who, "what": row.category, "hour": f"{row.hour:%Y-%m-%d %H:00} UTC"}
            about = f"{who}{' family' if row.is_family else ''} {row.category} {row.hour:%Y-%m-%dT%H}"
            made += await self._notice(session, "audit_alert", about, facts | {"count": str(row.row_count)})
        return made

    async def _acts(self, session: AsyncSession) -> list[UUID]:
        made = list[UUID]()
        for row in (await session.execute(_WAITING)).all():
            what = f"{row.object_kind} {row.object_id}" if row.object_id else row.object_kind
            facts = {"act_id": str(row.id), "verb": row.verb, "object": what, "key_id": str(row.asked_by)}
            facts |= {"due_at": f"{row.due_at:%Y-%m-%d %H:%M} UTC"}
            made += await self._notice(session, "pending_act", str(row.id), facts)
        return made

    async def _notice(self, session: AsyncSession, kind: NoticeKind, about: str, facts: dict[str, str]) -> list[UUID]:
        """One row for each address, or a single one that is not mailed; logged unless it was noticed before."""
        count = len(self._settings.alert_addresses)
        row: dict[str, Any] = {"kind": kind, "about": about, "content": facts, "due_at": now() if count else None}
        rows = [row | {"id": uuid7(), "recipient": place, "mail_count": 0} for place in range(max(count, 1))]
        statement = insert(OwnerNotice).values(rows).on_conflict_do_nothing(index_elements=["about", "recipient"])
        made = list(await session.scalars(statement.returning(OwnerNotice.id)))
        if made:
            metrics.alerts.labels(kind).inc()
            log.warning("an act waits" if kind == "pending_act" else "a key sees or destroys much", **facts)
        return made
