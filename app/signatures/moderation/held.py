"""Held signatures: how many there are, and letting them go on as if nothing had happened."""

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
from app.signatures.engine.scan import Passes
from app.signatures.models import Signature

# Changes of the petition wait for a slice; nothing that refers to it does, and no signer.
_NEXT = """
    SELECT id, release_held_before, confirmation = 'email' FROM petitions
    WHERE release_held_before IS NOT NULL ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_DONE = "UPDATE petitions SET release_held_before = NULL WHERE id = $1"
DUE = "EXISTS (SELECT 1 FROM petitions WHERE release_held_before IS NOT NULL)"


class Held(NamedTuple):
    """How many signatures are held, and whether they are being released."""

    held_count: int
    releasing: bool


async def held(session: AsyncSession, petition: Petition) -> Held:
    """What is held of this petition; invalidated ones are not."""
    query = select(func.count()).where(
        Signature.petition_id == petition.id, Signature.state == "pending", Signature.held.is_not(None)
    )
    held_count = (await session.scalars(query)).one()
    return Held(held_count, petition.release_held_before is not None)


async def release(session: AsyncSession, ref: str) -> Petition:
    """Let the worker release what is held by now; PetitionNotFound."""
    petition = await petitions.lock(session, ref)
    petition.release_held_before = now()
    await session.flush()
    return petition


async def carry_on(lane: Lane, passes: Passes) -> bool:
    """Release in the next slice of a petition that nobody is at; False when there is none."""
    async with committing(lane.connection):
        row = await lane.connection.fetchrow(_NEXT)
        if row is None:
            return False
        id_, before, confirmed_by_mail = row
        job: tuple[str, UUID, object] = ("release", id_, before)
        under_way = await passes.of(lane.connection, job, id_)
        sliced = await chunks.release(lane, under_way.part(), before, confirmed_by_mail=confirmed_by_mail)
        if done := under_way.advance(unfinished=sliced.changed > 0):
            await lane.connection.execute(_DONE, id_)
    if done:
        passes.end(job)
    return True
