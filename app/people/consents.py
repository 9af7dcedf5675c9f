"""The ledger of consents: entries are appended, and what counts is the latest for an organization and a purpose.

The latest is the one decided last, not the one written last: an import may bring an old word after a newer one.
Of two decided in the same moment the one entered later counts.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.ids import uuid7
from app.kit.sealing import KeyRing
from app.people import queries, service
from app.people.models import Consent, OutgoingMail
from app.people.queries import HAS_CONSENT_SQL, consenting, latest_of
from app.people.sealing import seal_mail

__all__ = ["HAS_CONSENT_SQL", "Entry", "consenting", "decide", "enter", "latest_of"]

Key: TypeAlias = tuple[bytes, UUID, str]
# What is kept for a purpose alone goes with the consent.
_KEPT_FOR_A_PURPOSE = {"phone", "location"}


class Entry(NamedTuple):
    """What somebody decided. `page`: where; `partner_id`: who brought it."""

    signer: bytes
    organization_id: UUID
    purpose: str
    given: bool
    text_id: UUID | None
    decided_at: datetime
    petition_id: UUID | None = None
    partner_id: UUID | None = None
    page: str | None = None

    @property
    def key(self) -> Key:
        """Whose word it is, to whom, for what."""
        return self.signer, self.organization_id, self.purpose


async def enter(session: AsyncSession, ring: KeyRing, entries: Sequence[Entry]) -> list[Entry]:
    """Append to the ledger; those that newly give a consent that was not standing before.

    A new consent to news is followed by a mail of welcome. Taking back what a phone number or a cell was kept for
    destroys it in the same transaction. People with a row are locked: two entries are told in one order.
    """
    if not entries:
        return []
    await queries.locked(session, {entry.signer for entry in entries})
    before = await queries.latest_of_all(session, {entry.signer for entry in entries})
    stood = {key: (entry.decided_at, entry.given) for key, entry in before.items()}
    await _append(session, entries)
    latest = _latest(entries)
    counting = [entry for key, entry in latest.items() if key not in stood or stood[key][0] <= entry.decided_at]
    given = [entry for entry in counting if entry.given and not stood.get(entry.key, (None, False))[1]]
    await _welcome(session, ring, given)
    await _destroy(session, ring, [entry for entry in counting if not entry.given])
    return given


async def decide(
    session: AsyncSession,
    ring: KeyRing,
    signer: bytes,
    organization_id: UUID,
    purpose: str,
    *,
    given: bool,
    text_id: UUID | None = None,
    page: str | None = None,
) -> Consent:
    """Enter what a person says here and now, and give the entry back: it is the one that counts from now on."""
    await queries.locked(session, [signer])
    latest = (await latest_of(session, signer)).get((organization_id, purpose))
    # Not before the word it follows, should that have come from a clock that is ahead.
    decided_at = max(now(), latest.decided_at) if latest else now()
    await enter(session, ring, [Entry(signer, organization_id, purpose, given, text_id, decided_at, page=page)])
    return (await latest_of(session, signer))[organization_id, purpose]


def _latest(entries: Iterable[Entry]) -> dict[Key, Entry]:
    """Of these, the one that counts for each key."""
    latest: dict[Key, Entry] = {}
    for entry in entries:
        other = latest.get(entry.key)
        if other is None or other.decided_at <= entry.decided_at:
            latest[entry.key] = entry
    return latest


async def _append(session: AsyncSession, entries: Iterable[Entry]) -> None:
    moment = now()
    rows = [{"id": uuid7(), "created_at": moment, **entry._asdict()} for entry in entries]
    await session.execute(insert(Consent), rows)


async def _welcome(session: AsyncSession, ring: KeyRing, given: Iterable[Entry]) -> None:
    rows = [
        _mail(ring, entry.signer, "welcome", {"organization": str(entry.organization_id)})
        for entry in given
        if entry.purpose == "news"
    ]
    if rows:
        await session.execute(insert(OutgoingMail), rows)


def _mail(ring: KeyRing, signer: bytes, kind: str, content: dict[str, str]) -> dict[str, object]:
    id_ = uuid7()
    return {"id": id_, "kind": kind, "signer": signer, "sealed": seal_mail(ring, id_, content)}


async def _destroy(session: AsyncSession, ring: KeyRing, withdrawn: Iterable[Entry]) -> None:
    kept = [entry for entry in withdrawn if entry.purpose in _KEPT_FOR_A_PURPOSE]
    if not kept:
        return
    movement = await queries.movement_id(session)
    for signer in sorted({entry.signer for entry in kept if entry.organization_id == movement}):
        purposes = {entry.purpose for entry in kept if (entry.signer, entry.organization_id) == (signer, movement)}
        await service.destroy(session, ring, signer, purposes)
