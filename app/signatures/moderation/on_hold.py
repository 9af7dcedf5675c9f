"""Signatures on hold: how many there are, and their release, chunk by chunk. Columns and API call them held."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.session import committing
from app.petitions import service as petitions
from app.petitions.models import Petition
from app.signatures.engine import chunks
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import ScanProgress
from app.signatures.models import Signature

# Staff who change the petition wait for the chunk; signers do not, nor does anything that refers to the petition.
_NEXT = """
    SELECT id, release_held_before, confirmation = 'email' FROM petitions
    WHERE release_held_before IS NOT NULL ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_DONE = "UPDATE petitions SET release_held_before = NULL WHERE id = $1"
DUE = "EXISTS (SELECT 1 FROM petitions WHERE release_held_before IS NOT NULL)"


class OnHold(NamedTuple):
    """How many signatures are on hold, and whether they are being released."""

    held_count: int
    releasing: bool


async def on_hold(session: AsyncSession, petition: Petition) -> OnHold:
    """The signatures on hold of this petition; invalidated ones are not among them."""
    query = select(func.count()).where(
        Signature.petition_id == petition.id, Signature.state == "pending", Signature.on_hold.is_not(None)
    )
    held_count = (await session.scalars(query)).one()
    return OnHold(held_count, petition.release_held_before is not None)


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
