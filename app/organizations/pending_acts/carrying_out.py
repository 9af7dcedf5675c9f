"""Carrying out what waited: at a second person's word, or by the worker when the day is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import savepoint
from app.kit.logs import failure_of, log
from app.kit.problems import Problem
from app.kit.room_interface import CarryOut, ErasureChoice, Services
from app.organizations.audit.chain import Act, append
from app.organizations.models import ApiKey, PendingAct
from app.organizations.pending_acts import service
from app.organizations.principals import Principal
from app.organizations.queries import live

_AGAIN = timedelta(minutes=5)
# Since when the act that is due longest is due; NULL when none is.
OLDEST_DUE = text("SELECT min(due_at) FROM pending_acts WHERE state = 'waiting' AND due_at <= now()")
_DESTRUCTIONS = {"person.erase"}


async def carry_out(
    session: AsyncSession, acts: Mapping[str, CarryOut], act: PendingAct, decided_by: UUID | None
) -> None:
    """Do it, in this session, and enter it in the audit log as an act of the key that asked.

    What is not possible any more fails for good, with its problem's slug; any other error is the caller's. What a key
    asked for that has ended since is cancelled: it could not ask for it any more.
    """
    if not await _is_asker_live(session, act):
        service.cancel_for_ended_key(act)
        await session.flush()
        log.info("a pending act is over", act=str(act.id), verb=act.verb, end=act.state)
        return
    failure = None
    try:
        async with savepoint(session):
            await acts[act.verb](session, act)
    except Problem as problem:
        failure = problem.slug
    service.conclude(act, decided_by, failure)
    await session.flush()
    log.info("a pending act is over", act=str(act.id), verb=act.verb, end=act.state)
    if failure is None:
        await append(session, await _asker(session, act), _entry(act))


async def _is_asker_live(session: AsyncSession, act: PendingAct) -> bool:
    query = select(ApiKey.id).where(ApiKey.id == act.asked_by, live(now()))
    return await session.scalar(query) is not None


async def _asker(session: AsyncSession, act: PendingAct) -> Principal:
    role = (await session.scalars(select(ApiKey.role).where(ApiKey.id == act.asked_by))).one()
    return Principal(act.asked_by, act.organization_id, "", role)


def _entry(act: PendingAct) -> Act:
    object_id = str(act.object_id) if act.object_id else None
    category: Any = "destruction" if act.verb in _DESTRUCTIONS else "act"
    return Act(act.verb, act.object_kind, object_id, category, fields=list(act.content), pending_act_id=act.id)


@dataclass(frozen=True)
class CarryingOut:
    """The sweep: one act a round, each in a transaction of its own, since its entry in the audit log is the last."""

    services: Services

    async def __call__(self, session: AsyncSession) -> Sequence[UUID]:
        """Carry out the act that is due longest. One that fails unexpectedly is tried again after a while."""
        due = select(PendingAct).where(PendingAct.state == "waiting", PendingAct.due_at <= now())
        act = await session.scalar(due.order_by(PendingAct.due_at).limit(1).with_for_update(skip_locked=True))
        if act is None:
            return []
        try:
            await carry_out(session, self.services.pending_acts(), act, None)
        except Exception as error:  # noqa: BLE001 - it must not keep the others waiting
            log.error("a pending act cannot be carried out", act=str(act.id), verb=act.verb, **failure_of(error))
            await session.refresh(act)
            act.due_at = now() + _AGAIN
            await session.flush()
        return [act.id]


@dataclass(frozen=True)
class PendingErasures:
    """What this room keeps of a person (`PersonalDataStore`): that their erasure waits."""

    services: Services
    name: str = "pending_acts"

    async def knows(self, session: AsyncSession, signer: bytes) -> bool:
        """Whether an erasure of this person waits."""
        return (await session.scalars(service.waiting_about(signer))).first() is not None

    async def export(self, session: AsyncSession, _ring: KeyRing, signer: bytes) -> list[dict[str, Any]]:
        """What waits about this person."""
        names = ("id", "verb", "asked_at", "due_at")
        found = await session.scalars(service.waiting_about(signer))
        return [{name: getattr(act, name) for name in names} for act in found]

    async def erase(self, signer: bytes, _choice: ErasureChoice) -> None:
        """Forget what waits about this person."""
        async with self.services.database.transaction() as session:
            await service.forget_person(session, signer)
