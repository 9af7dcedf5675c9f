"""Published tallies: the public breakdowns of petitions whose signatures are unproven, coarse and hourly.

There anybody can sign as anybody, and a breakdown that moves at once tells whether somebody had signed before: a second
signing moves nothing. So the worker publishes such tallies once an hour, from two snapshots: of each key what stood at
both (what came and went within the hour is in neither), rounded down to tens, if it is above fifty (`disclosure.py`).
The rest is `other`, and the rows sum to the total of the later snapshot, which `/count` has told at that moment too.

One set of rows a petition: the snapshot, and what was published of it. It is read from the tallies, never from
signatures, and stored, so that every process tells the same, after a restart too.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.petitions import queries as petitions
from app.petitions.models import Petition
from app.signatures.dimensions import BY_NAME, DIMENSIONS
from app.signatures.models import PublishedTally, SignatureTally
from app.signatures.reading.disclosure import OTHER, STEP, UNPROVEN_ABOVE, fitted, next_published
from app.signatures.schemas import DimensionName, TallyRow, TallyView

# An hour, less what a worker may be late by.
_AN_HOUR = timedelta(minutes=55)
_PETITIONS_AT_ONCE = 50
_PUBLIC = [dimension.name for dimension in DIMENSIONS if dimension.is_public]
# A key that is not published needs no row unless it may be soon.
_REMEMBERED_ABOVE = UNPROVEN_ABOVE - STEP

Key = tuple[str, str]


class Published(NamedTuple):
    """One key: its count at the snapshot, what is published of it, and since when it is that (None: it never was)."""

    signature_count: int
    published_count: int
    changed_at: datetime | None


_NEVER = Published(0, 0, None)


class TallyPublisher:
    """The sweep that publishes, hour by hour."""

    def __init__(self, ring: KeyRing) -> None:
        self._secret = ring.digest_key

    async def __call__(self, session: AsyncSession) -> Sequence[UUID]:
        """Publish what is due; the petitions that were."""
        return await self.publish(session, await petitions.moment(session))

    async def publish(self, session: AsyncSession, moment: datetime) -> Sequence[UUID]:
        """The same, as at this moment."""
        due = await _due(session, moment)
        for petition_id in due:
            before = await _published(session, petition_id)
            counts = await _snapshot(session, petition_id, moment)
            await _replace(
                session, petition_id, moment, published_after(self._secret, petition_id, before, counts, moment)
            )
        return due


async def _due(session: AsyncSession, moment: datetime) -> Sequence[UUID]:
    is_early = (
        select(PublishedTally.petition_id)
        .where(
            PublishedTally.petition_id == Petition.id,
            PublishedTally.dimension == "total",
            (PublishedTally.hour >= _hour_of(moment)) | (PublishedTally.taken_at > moment - _AN_HOUR),
        )
        .exists()
    )
    query = select(Petition.id).where(petitions.TAKES_UNPROVEN, petitions.STATE_NOW != "draft", ~is_early)
    return (await session.scalars(query.order_by(Petition.id).limit(_PETITIONS_AT_ONCE))).all()


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def _published(session: AsyncSession, petition_id: UUID) -> dict[Key, Published]:
    row = PublishedTally
    columns = (row.dimension, row.key, row.signature_count, row.published_count, row.changed_at)
    rows = await session.execute(select(*columns).where(row.petition_id == petition_id))
    return {(dimension, key): Published(counted, told, since) for dimension, key, counted, told, since in rows}


async def _snapshot(session: AsyncSession, petition_id: UUID, moment: datetime) -> dict[Key, int]:
    """The exact tallies, in one statement; without the hour that is running."""
    row = SignatureTally
    query = (
        select(row.dimension, row.key, func.sum(row.signature_count))
        .where(row.petition_id == petition_id, row.dimension.in_(["total", *_PUBLIC]))
        .group_by(row.dimension, row.key)
    )
    running = _hour_of(moment).strftime("%Y-%m-%dT%H:00:00Z")
    counts = {(dimension, key): int(counted) for dimension, key, counted in await session.execute(query)}
    return {of: counted for of, counted in counts.items() if of[0] != "hour" or of[1] < running}


def published_after(
    secret: bytes, petition_id: UUID, before: Mapping[Key, Published], counts: Mapping[Key, int], moment: datetime
) -> dict[Key, Published]:
    """What is published after this snapshot: a function of it and of what was published before. The total is exact."""
    total = counts.get(("total", ""), 0)
    after = {("total", ""): Published(total, total, None)}
    for dimension in _PUBLIC:
        of = {key for name, key in (*before, *counts) if name == dimension}
        was = {key: before.get((dimension, key), _NEVER) for key in of}
        stood = {key: min(was[key].signature_count, counts.get((dimension, key), 0)) for key in of}
        chosen = {
            key: next_published(
                secret, f"{petition_id} {dimension} {key}", stood[key], was[key].published_count, was[key].changed_at
            )
            for key in of
        }
        for key, number in fitted(chosen, stood, total).items():
            changed_at = was[key].changed_at if number == was[key].published_count else moment
            after[dimension, key] = Published(counts.get((dimension, key), 0), number, changed_at)
    return after


async def _replace(session: AsyncSession, petition_id: UUID, moment: datetime, rows: Mapping[Key, Published]) -> None:
    of_petition = {"petition_id": petition_id, "hour": _hour_of(moment), "taken_at": moment}
    kept = [
        {"dimension": dimension, "key": key, **one._asdict(), **of_petition}
        for (dimension, key), one in rows.items()
        if dimension == "total" or one.signature_count > _REMEMBERED_ABOVE or one.changed_at is not None
    ]
    old = delete(PublishedTally).where(PublishedTally.petition_id == petition_id)
    await session.execute(old, execution_options={"synchronize_session": False})
    await session.execute(insert(PublishedTally), kept)


async def published_view(session: AsyncSession, petition_id: UUID, by: DimensionName) -> TallyView:
    """A breakdown as it was published last; empty until the worker has come by for the first time."""
    row = PublishedTally
    query = select(row.dimension, row.key, row.published_count, row.taken_at).where(
        row.petition_id == petition_id, row.dimension.in_(("total", by)), row.published_count > 0
    )
    total, rows, as_of = 0, [], now()
    for dimension, key, published_count, taken_at in await session.execute(query):
        if dimension == "total":
            total, as_of = published_count, taken_at
        else:
            rows.append(TallyRow(key=key or None, signature_count=published_count))
    rows.sort(key=lambda one: (one.key or "") if BY_NAME[by].is_time else (-one.signature_count, one.key or ""))
    if rest := total - sum(one.signature_count for one in rows):
        rows.append(TallyRow(key=OTHER, signature_count=rest))
    return TallyView(by=by, total=total, rows=rows, as_of=as_of)
