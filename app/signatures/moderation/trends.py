"""Trends: where the signatures of the last minutes came from, so that staff see an attack while it goes on.

A domain can belong to one person and an address to one household: only those that five signatures share are shown, and
where signatures are proven, only proven ones count: four false ones would lift one person's domain over the border.
Where none is proven the answer says so, and a domain takes more than fifty (`reading/disclosure.py`).
A domain is stored as a digest; its name is read from one of the signatures that share it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database
from app.people.fields import emails
from app.petitions.models import Petition
from app.petitions.queries import TAKES_UNPROVEN
from app.signatures.engine.attempts import ATTEMPTS
from app.signatures.moderation.schemas import TrendRow, TrendsView
from app.signatures.reading.disclosure import SMALLEST_PUBLIC_KEY, UNPROVEN_ABOVE, draw, in_tens
from app.signatures.signing.email_domains import domain_of
from app.signatures.signing.sealing import unseal

SMALLEST_SHOWN = SMALLEST_PUBLIC_KEY
MOST_SHOWN = 20
# Seconds. All staff who watch share one read, and nobody sees signatures come one by one.
_SECONDS = 60.0
_SUMMARIZED_EVERY = timedelta(minutes=1)

# PostgreSQL's `grouping()`: a bit for every column that is not grouped by.
_BY_ADDRESS, _BY_DOMAIN, _BY_SOURCE, _ALL = 0b011, 0b101, 0b110, 0b111
# One scan of these minutes' pages (by the index on `signed_at`) answers everything.
_COUNT = text(f"""
    SELECT kind, digest, source, signature_count, every_count, held_count, disposable_count FROM (
        SELECT kind, digest, source, signature_count, every_count, held_count, disposable_count,
            row_number() OVER (PARTITION BY kind ORDER BY signature_count DESC, digest, source) AS place
        FROM (
            SELECT grouping(address_digest, domain_digest, source) AS kind,
                coalesce(address_digest, domain_digest) AS digest, source,
                count(*) FILTER (WHERE NOT :proven OR proven AND state = 'confirmed') AS signature_count,
                count(*) AS every_count, count(held) AS held_count, count(disposable) AS disposable_count
            FROM {ATTEMPTS.format(petition=":petition_id")} AS attempts
            WHERE signed_at >= :signed_from AND signed_at < :signed_until
            GROUP BY GROUPING SETS ((address_digest), (domain_digest), (source), ())
        ) AS counted
        WHERE kind = {_ALL} OR (digest IS NOT NULL OR source IS NOT NULL) AND signature_count >= {SMALLEST_SHOWN}
    ) AS placed
    WHERE place <= {MOST_SHOWN}
    ORDER BY kind, place
""")
_SAMPLES = text("""
    SELECT d.digest, s.signer, s.sealed FROM unnest(CAST(:digests AS bytea[])) AS d (digest)
    CROSS JOIN LATERAL (
        SELECT signer, sealed FROM signatures
        WHERE petition_id = :petition_id AND signed_at >= :signed_from AND domain_digest = d.digest
            AND (NOT :proven OR proven AND state = 'confirmed') LIMIT 1
    ) AS s
""")
# Waiting for a lock that an autovacuum holds would make the autovacuum give up (after `deadlock_timeout`): so do not
# wait.
_IS_LOCKED = text("""
    SELECT EXISTS (
        SELECT 1 FROM pg_locks
        WHERE relation = CAST('signatures' AS regclass) AND database IN (
            SELECT oid FROM pg_database WHERE datname = current_database()
        ) AND mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
            'AccessExclusiveLock')
    )
""")
_SUMMARIZE = text("SELECT brin_summarize_new_values(CAST('ix_signatures__signed_at' AS regclass))")


class _Window(NamedTuple):
    """Which signatures: of one petition, in these full minutes; and whether only proven ones count."""

    petition_id: UUID
    signed_from: datetime
    signed_until: datetime
    proven: bool


class Trends:
    """A coalescing reader of trends: at most a minute old, however many watch. One per process."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._reader = CoalescingReader(self._read, seconds=_SECONDS)

    async def of(self, petition_id: UUID, minutes: int) -> TrendsView | None:
        """Where this petition's signatures of the last `minutes` came from."""
        return await self._reader.get((petition_id, minutes))

    async def _read(self, asked: Sequence[tuple[UUID, int]]) -> Mapping[tuple[UUID, int], TrendsView]:
        async with self._database.snapshot() as session:
            return {(id_, minutes): await _look(session, self._ring, id_, minutes) for id_, minutes in asked}


async def _look(session: AsyncSession, ring: KeyRing, petition_id: UUID, minutes: int) -> TrendsView:
    window = await _window(session, petition_id, minutes)
    rows = (await session.execute(_COUNT, window._asdict())).all()
    of = {kind: [row for row in rows if row.kind == kind] for kind in (_BY_ADDRESS, _BY_DOMAIN, _BY_SOURCE, _ALL)}
    every = of[_ALL][0]
    domains = _domains(ring, window, of[_BY_DOMAIN])
    names = await _names(session, ring, window, list(domains))
    return TrendsView(
        minutes=minutes,
        basis="proven" if window.proven else "unproven",
        signature_count=every.signature_count,
        # In tens, for one more or less is one person.
        unproven_count=in_tens(every.every_count - every.signature_count) if window.proven else None,
        held_count=in_tens(every.held_count),
        disposable_count=in_tens(every.disposable_count),
        by_address_digest=_rows(every, [(row.digest.hex(), row.signature_count) for row in of[_BY_ADDRESS]]),
        by_mail_domain=_rows(every, [(names.get(digest), counted) for digest, counted in domains.items()]),
        by_source=_rows(every, [(row.source, row.signature_count) for row in of[_BY_SOURCE]]),
        as_of=window.signed_until,
    )


async def _window(session: AsyncSession, petition_id: UUID, minutes: int) -> _Window:
    until = now().replace(second=0, microsecond=0)
    proven = await session.scalar(select(~TAKES_UNPROVEN).where(Petition.id == petition_id))
    return _Window(petition_id, until - timedelta(minutes=minutes), until, proven=bool(proven))


def _domains(ring: KeyRing, window: _Window, rows: Iterable[Any]) -> dict[bytes, int]:
    """The domains that may be shown, by their digests, and how many are told of each."""
    counts: dict[bytes, int] = {row.digest: row.signature_count for row in rows}
    if window.proven:
        return counts
    borders = {
        digest: UNPROVEN_ABOVE + draw(ring.digest_key, window.petition_id, digest.hex(), "trend") for digest in counts
    }
    return {digest: in_tens(counted) for digest, counted in counts.items() if counted > borders[digest]}


def _rows(every: Any, named: Iterable[tuple[str | None, int]]) -> list[TrendRow]:
    """The rows that have a name, and one without for what they leave of the total, if anything."""
    rows = [TrendRow(key=name, signature_count=counted) for name, counted in named if name is not None]
    rest = every.signature_count - sum(row.signature_count for row in rows)
    return [*rows, TrendRow(key=None, signature_count=rest)] if rest else rows


async def _names(session: AsyncSession, ring: KeyRing, window: _Window, digests: Sequence[bytes]) -> dict[bytes, str]:
    """The domains' names by their digests, as far as they can be read."""
    values = {**window._asdict(), "digests": digests}
    names = {}
    for digest, signer, sealed in await session.execute(_SAMPLES, values) if digests else []:
        try:
            email = unseal(ring, window.petition_id, signer, sealed).email
        except SealBrokenError:
            continue
        names[digest] = domain_of(emails.canonical(email))
    return names


class BrinMaintenance:
    """BRIN maintenance: adds new pages to the index that trends are read through, at most once a minute."""

    def __init__(self, every: timedelta = _SUMMARIZED_EVERY) -> None:
        self._every = every
        self._last: datetime | None = None

    async def __call__(self, session: AsyncSession) -> Sequence[object]:
        """Summarize the pages written since; nothing when it is too early, or a vacuum is under way."""
        moment = now()
        if self._last is not None and moment < self._last + self._every:
            return []
        if (await session.scalars(_IS_LOCKED)).one():
            return []
        self._last = moment
        ranges = (await session.scalars(_SUMMARIZE)).one()
        return range(ranges)
