"""Signatures on hold: how many there are, where they came from, and their release, chunk by chunk.

Columns and API call them held. Those that wait for their signer to confirm by mail are told apart: they are released
as well, but need not be.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database, committing
from app.petitions import service as petitions
from app.petitions.models import NO_ADDRESS_LIMIT, Petition
from app.signatures.engine import chunks
from app.signatures.engine.attempts import ATTEMPTS
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import ScanProgress
from app.signatures.models import Signature
from app.signatures.moderation.schemas import HeldView, SharedAddress

# Staff who change the petition wait for the chunk; signers do not, nor does anything that refers to the petition.
_NEXT = """
    SELECT id, release_held_before, confirmation = 'email' FROM petitions
    WHERE release_held_before IS NOT NULL ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_DONE = "UPDATE petitions SET release_held_before = NULL WHERE id = $1"
DUE = "EXISTS (SELECT 1 FROM petitions WHERE release_held_before IS NOT NULL)"


# Of an address that fewer share staff are told nothing, and of fewer that are confirmed no number.
SMALLEST_SHOWN = 5
MOST_SHOWN = 20
# The limits of an address are an hour's.
_WINDOW = timedelta(hours=1)
# Seconds. All staff who watch share one read.
_SECONDS = 5.0
# By the index on `signed_at`: the pages of that hour, however many signatures there are.
_SHARED = text(f"""
    SELECT address_digest, count(*) AS signature_count, count(*) FILTER (WHERE state = 'confirmed') AS confirmed_count
    FROM {ATTEMPTS.format(petition=":petition_id")} AS attempts
    WHERE signed_at >= :signed_from AND address_digest IS NOT NULL
    GROUP BY address_digest HAVING count(*) >= :least
    ORDER BY signature_count DESC, address_digest LIMIT {MOST_SHOWN}
""")


class _Asked(NamedTuple):
    """A petition, and how many signatures from one client address are enough to name it."""

    petition_id: UUID
    least: int


class SharedAddresses:
    """Which client addresses are over a petition's limit: at most five seconds old, however many watch. One a process.

    `limit` an hour is what holds for petitions of which staff have said nothing.
    """

    def __init__(self, database: Database, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._reader = CoalescingReader(self._read, seconds=_SECONDS)

    async def of(self, petition: Petition) -> Sequence[SharedAddress]:
        """The addresses that have signed it more often in the last hour than its limit says; the largest 20."""
        limit = petition.address_limit or self._limit
        if limit == NO_ADDRESS_LIMIT:
            return []
        return await self._reader.get(_Asked(petition.id, max(limit + 1, SMALLEST_SHOWN))) or []

    async def _read(self, asked: Sequence[_Asked]) -> Mapping[_Asked, Sequence[SharedAddress]]:
        signed_from = now() - _WINDOW
        async with self._database.snapshot() as session:
            return {
                one: [
                    _shared(row) for row in await session.execute(_SHARED, one._asdict() | {"signed_from": signed_from})
                ]
                for one in asked
            }


def _shared(row: Row[tuple[bytes, int, int]]) -> SharedAddress:
    confirmed = row.confirmed_count if row.confirmed_count >= SMALLEST_SHOWN else None
    return SharedAddress(
        address_digest=row.address_digest.hex(), signature_count=row.signature_count, confirmed_count=confirmed
    )


async def on_hold(session: AsyncSession, petition: Petition, addresses: SharedAddresses) -> HeldView:
    """The signatures on hold of this petition; invalidated ones are not among them."""
    is_held = (Signature.petition_id == petition.id, Signature.state == "pending", Signature.on_hold.is_not(None))
    counts = select(Signature.on_hold, func.count()).where(*is_held).group_by(Signature.on_hold)
    found = dict((await session.execute(counts)).all())
    return HeldView(
        held_count=found.get(True, 0),
        asked_count=found.get(False, 0),
        releasing=petition.release_held_before is not None,
        shared_addresses=[*await addresses.of(petition)],
    )


async def release(session: AsyncSession, ref: str) -> Petition:
    """Let the worker release what is on hold by now; PetitionNotFound."""
    petition = await petitions.lock(session, ref)
    petition.release_held_before = now()
    await session.flush()
    return petition


async def release_next(lane: Lane, progress: ScanProgress) -> bool:
    """Release in the next chunk of a petition that no other worker is doing; False when there is none."""
    async with committing(lane.connection):
        row = await lane.connection.fetchrow(_NEXT)
        if row is None:
            return False
        id_, before, confirmed_by_mail = row
        key: tuple[str, UUID, object] = ("release", id_, before)
        scan = await progress.scan_of(lane.connection, key, id_)
        result = await chunks.release(lane, scan.chunk(), before, confirmed_by_mail=confirmed_by_mail)
        if done := scan.advance(unfinished=result.changed > 0):
            await lane.connection.execute(_DONE, id_)
    if done:
        progress.end(key)
    return True
