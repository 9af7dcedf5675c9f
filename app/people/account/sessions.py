"""Sessions: a person is signed in on a device for 30 days, sees on which other devices, and can end each session."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now, this_second
from app.kit.crypto.bearer_secrets import digest_of
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7_of_second
from app.kit.problems import NotFound, Unauthorized
from app.organizations.principals import NO_ORGANIZATION, PERSON, Principal
from app.people.account.keys import looks_like_a_key, new_key
from app.people.models import OutgoingMail, PersonSession, SignIn
from app.people.sealing import Details, open_session, seal_session

LIFETIME = timedelta(days=30)
# The time of the last use is exact to this: a busy session would otherwise write its row with every request.
_USE_NOTED_EVERY = timedelta(minutes=1)
# A sign-in is kept so long, for its owner to see; a session lasts no longer.
_KEPT = timedelta(days=30)


class SessionNotFound(NotFound):
    """You have no such session."""

    slug = "session-not-found"


class NewSession(NamedTuple):
    """A session at the one moment when its key is known."""

    id: UUID
    key: str
    expires_at: datetime


async def begin(session: AsyncSession, ring: KeyRing, signer: bytes, details: Details) -> NewSession:
    """Begin a session: sign a person in on one more device. With the address and locale they asked with."""
    id_, key, moment = uuid7_of_second(), new_key(), this_second()
    begun = PersonSession(
        id=id_,
        signer=signer,
        sealed=seal_session(ring, id_, details),
        digest=digest_of(key),
        created_at=moment,
        last_used_at=moment,
        expires_at=moment + LIFETIME,
    )
    session.add(begun)
    await session.flush()
    return NewSession(begun.id, key, begun.expires_at)


async def details_asked_with(session: AsyncSession, ring: KeyRing, session_id: UUID) -> Details | None:
    """The address and locale that this session was asked for with; None in one that an earlier version began."""
    sealed = await session.scalar(select(PersonSession.sealed).where(PersonSession.id == session_id))
    return open_session(ring, session_id, sealed) if sealed else None


def live(moment: datetime) -> ColumnElement[bool]:
    """The condition that a session has neither been ended nor expired."""
    return and_(PersonSession.ended_at.is_(None), PersonSession.expires_at > moment)


async def recognize(session: AsyncSession, key: str) -> Principal | None:
    """The person who is signed in with this key; None when no session has it. The use is noted to the minute."""
    if not looks_like_a_key(key):
        return None
    moment = now()
    row = await session.scalar(select(PersonSession).where(PersonSession.digest == digest_of(key), live(moment)))
    if row is None:
        return None
    if moment - row.last_used_at >= _USE_NOTED_EVERY:
        await session.execute(
            update(PersonSession).where(PersonSession.id == row.id).values(last_used_at=this_second())
        )
    return Principal(row.id, NO_ORGANIZATION, "", PERSON, row.signer)


async def lock(session: AsyncSession, session_id: UUID) -> None:
    """Lock this session, so that it cannot be ended before the transaction is over; Unauthorized when it has ended.

    Called before anything is written for somebody who is signed in, so that nothing is written after their erasure.
    """
    query = select(PersonSession.id).where(PersonSession.id == session_id, live(now()))
    if await session.scalar(query.with_for_update(read=True)) is None:
        raise Unauthorized


def sessions_of(signer: bytes) -> Select[PersonSession]:
    """The live sessions of this person."""
    return select(PersonSession).where(PersonSession.signer == signer, live(now()))


async def end(session: AsyncSession, signer: bytes, session_id: UUID) -> None:
    """End a session at once; ending it again is harmless; SessionNotFound."""
    own = (PersonSession.id == session_id, PersonSession.signer == signer)
    found = await session.scalar(select(PersonSession).where(*own).with_for_update())
    if found is None:
        raise SessionNotFound
    found.ended_at = found.ended_at or this_second()
    found.sealed = None
    await session.flush()


async def forget_sign_ins(session: AsyncSession) -> Sequence[UUID]:
    """Delete what is older than 30 days: sign-ins, sessions (expired by then) and mails never sent; their ids.

    The ids are compared, since they hold the time of their making: so no row that stays is read.
    """
    first = _first_id_at(now() - _KEPT)
    gone = await session.scalars(delete(SignIn).where(SignIn.id < first).returning(SignIn.id))
    ended = delete(PersonSession).where(PersonSession.id < first, ~live(now()))
    unsent = delete(OutgoingMail).where(OutgoingMail.id < first).returning(OutgoingMail.id)
    return [*gone, *await session.scalars(ended.returning(PersonSession.id)), *await session.scalars(unsent)]


def _first_id_at(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a millisecond."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
