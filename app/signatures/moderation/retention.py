"""Retention: from a day that staff set on, the personal data of signers without other consent is destroyed.

A signature that counts stays as a nameless row, so that every tally can be recounted; one that does not count is
deleted. Consents that came with a signature must be in the ledger first: until then nobody can say whether its signer
consents. The whole petition waits for them, for ever if no key opens them: so a monitor writes that to the log. It
waits also until the organizations concerned have been told of every withdrawal.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.session import committing
from app.kit.logs import log
from app.people.consents.service import HAS_CONSENT_SQL
from app.petitions.models import Petition
from app.signatures.engine import chunks
from app.signatures.engine.attempts import CONSENTS_DUE, CONSENTS_DUE_WAITING
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.transitions import COUNTED
from app.signatures.moderation.schemas import RetentionView

_WAITS = CONSENTS_DUE.format(row="o")
_WAITS_BESIDE = CONSENTS_DUE_WAITING.format(row="a")
_DAY_HAS_COME = """
    p.personal_data_until <= (now() AT TIME ZONE 'UTC')::date AND p.personal_data_destroyed_at IS NULL
    AND p.state IN ('closed', 'archived')
"""
_HAS_COME = f"""
    {_DAY_HAS_COME} AND NOT EXISTS (
        SELECT 1 FROM signatures o WHERE o.petition_id = p.id AND {_WAITS}
    ) AND NOT EXISTS (
        SELECT 1 FROM signature_attempts a WHERE a.petition_id = p.id AND {_WAITS_BESIDE}
    ) AND NOT EXISTS (
        SELECT 1 FROM signatures o WHERE o.petition_id = p.id AND o.withdrawn_id IS NOT NULL
    ) AND NOT EXISTS (
        SELECT 1 FROM signature_attempts a WHERE a.petition_id = p.id AND a.withdrawn_id IS NOT NULL
    )
"""
_NEXT = f"SELECT p.id FROM petitions p WHERE {_HAS_COME} ORDER BY p.id LIMIT 1 FOR NO KEY UPDATE OF p SKIP LOCKED"
# Consents and withdrawals that came after the petition was chosen: a scan that meets one is not the last.
_WAITING = f"""
    SELECT EXISTS (
        SELECT 1 FROM signatures o WHERE o.petition_id = $1 AND o.signer >= $2 AND o.signer < $3
        AND ({_WAITS} OR o.withdrawn_id IS NOT NULL)
    ) OR EXISTS (
        SELECT 1 FROM signature_attempts a WHERE a.petition_id = $1 AND a.signer >= $2 AND a.signer < $3
        AND ({_WAITS_BESIDE} OR a.withdrawn_id IS NOT NULL)
    )
"""
_DONE = "UPDATE petitions SET personal_data_destroyed_at = now() WHERE id = $1"
_STALLED = text(f"""
    SELECT p.id, count(*) FROM petitions p JOIN (
        SELECT o.petition_id FROM signatures o WHERE {_WAITS}
        UNION ALL SELECT a.petition_id FROM signature_attempts a WHERE {_WAITS_BESIDE}
    ) AS waiting ON waiting.petition_id = p.id
    WHERE {_DAY_HAS_COME} GROUP BY p.id ORDER BY p.id
""")
_LOGGED_EVERY = timedelta(hours=1)
DUE = f"EXISTS (SELECT 1 FROM petitions p WHERE {_HAS_COME})"
OLDEST_DUE = (
    f"SELECT CAST(min(p.personal_data_until) AS timestamp) AT TIME ZONE 'UTC' FROM petitions p WHERE {_HAS_COME}"
)

_DRY_RUN = text(f"""
    SELECT state, consents, count(*) FROM (
        SELECT o.state, {HAS_CONSENT_SQL.format(signer="o.signer")} AS consents FROM signatures o
        WHERE o.petition_id = :petition_id AND NOT ({COUNTED} AND o.sealed = '')
    ) AS looked_at GROUP BY state, consents
""")


async def dry_run(session: AsyncSession, petition: Petition) -> RetentionView:
    """What would be destroyed if the day had come; nameless rows are in neither number."""
    rows = (await session.execute(_DRY_RUN, {"petition_id": petition.id})).all()
    return RetentionView(
        personal_data_until=petition.personal_data_until,
        destroyed_at=petition.personal_data_destroyed_at,
        would_destroy={state: number for state, consents, number in sorted(rows) if not consents},
        would_keep_count=sum(number for _, consents, number in rows if consents),
    )


async def anonymize_next(lane: Lane, progress: ScanProgress) -> bool:
    """Anonymize in the next chunk of a petition that no other worker is doing; False when there is none."""
    async with committing(lane.connection):
        id_: UUID | None = await lane.connection.fetchval(_NEXT)
        if id_ is None:
            return False
        key = ("retention", id_)
        scan = await progress.scan_of(lane.connection, key, id_)
        chunk = scan.chunk()
        result = await chunks.anonymize(lane, chunk)
        waiting = await lane.connection.fetchval(_WAITING, *chunk)
        if done := scan.advance(unfinished=waiting or result.changed > 0):
            await lane.connection.execute(_DONE, id_)
    if done:
        progress.end(key)
    return True


class RetentionMonitor:
    """Logs, at most once an hour, petitions whose day has come while consents are not in the ledger yet.

    For a moment that is nothing unusual; if it lasts, no key opens these consents.
    """

    def __init__(self, every: timedelta = _LOGGED_EVERY) -> None:
        self._every = every
        self._last: datetime | None = None

    async def __call__(self, session: AsyncSession) -> None:
        """Look, unless that was done within the hour."""
        moment = now()
        if self._last is not None and moment < self._last + self._every:
            return
        self._last = moment
        for petition_id, waiting_count in await session.execute(_STALLED):
            log.warning("retention waits for consents", petition=str(petition_id), signatures=waiting_count)
