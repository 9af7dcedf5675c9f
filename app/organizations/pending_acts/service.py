"""The life of an act that waits: asked for, then confirmed by a second person, cancelled, or done when its day comes.

    waiting -> done
            -> failed, when it is not possible any more
            -> cancelled, by an owner, by the key that asked, or because that key was ended or has expired

The second person holds a key that nobody could have made who held the first: the two have no ancestor in common.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, any_, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.kit.clock import now
from app.kit.problems import Conflict, Forbidden, NotFound
from app.kit.text.fields import as_id
from app.organizations.audit.chain import Act, append
from app.organizations.models import PendingAct
from app.organizations.principals import OPERATOR, Principal

DELAY = timedelta(days=1)
# A key's first ancestor. Of keys older than the column nobody knows who made them: they count as one person's.
_ORIGIN = text("""
    WITH RECURSIVE line AS (
        SELECT id, made_by FROM api_keys WHERE id = :key_id
        UNION SELECT k.id, k.made_by FROM api_keys AS k JOIN line ON k.id = line.made_by
    ) SELECT CASE WHEN made_by IS NULL THEN CAST(:nobody AS uuid) ELSE id END FROM line
    WHERE made_by IS NULL OR made_by = :nobody
""")


class PendingActNotFound(NotFound):
    """There is no such act that waits."""

    slug = "pending-act-not-found"


class PendingActDecided(Conflict):
    """The act does not wait any more."""

    slug = "pending-act-decided"


class AnotherActWaits(Conflict):
    """Another key asked for the like, and it waits still; an owner, or that key, can cancel it."""

    slug = "another-act-waits"


class SecondPersonNeeded(Forbidden):
    """A second person must confirm this: with a key that no holder of the first could have made."""

    slug = "second-person-needed"


class Asked(NamedTuple):
    """What is asked for. `roles`: whose word it needs; `signer`: the person whom an erasure is about."""

    verb: str
    object_kind: str
    roles: Sequence[str]
    object_id: UUID | None = None
    content: dict[str, Any] = {}  # noqa: RUF012 - never changed
    signer: bytes | None = None


def visible_to(principal: Principal) -> Select[PendingAct]:
    """Owners see all, other staff what needs their role, a partner what its own keys asked for."""
    query = select(PendingAct)
    if principal.role == "owner":
        return query
    query = query.where(literal(principal.role) == any_(PendingAct.roles))
    return query if principal.is_staff else query.where(PendingAct.organization_id == principal.organization_id)


async def find(session: AsyncSession, ref: str, principal: Principal, *, locked: bool = False) -> PendingAct:
    """An act this principal may see; PendingActNotFound."""
    query = visible_to(principal).where(PendingAct.id == as_id(ref))
    found = await session.scalar(query.with_for_update() if locked else query)
    if found is None:
        raise PendingActNotFound
    return found


async def ask(session: AsyncSession, by: Principal, asked: Asked) -> PendingAct:
    """Let an act wait. The same that waits already is returned; another of its kind on the same object is replaced.

    To replace is to cancel: AnotherActWaits for whoever may not, and it is entered in the audit log.
    """
    same = (PendingAct.verb == asked.verb, PendingAct.object_id.is_not_distinct_from(asked.object_id))
    about = (PendingAct.state == "waiting", PendingAct.signer.is_not_distinct_from(asked.signer), *same)
    former = (await session.scalars(select(PendingAct).where(*about).with_for_update())).all()
    for one in former:
        if one.content == asked.content:
            return one
        if not _may_cancel(one, by):
            raise AnotherActWaits
    for one in former:
        _decide(one, "cancelled", by.key_id)
    moment = now()
    act = PendingAct(
        **asked._replace(roles=sorted(asked.roles))._asdict(),
        organization_id=by.organization_id,
        asked_by=by.key_id,
        asked_at=moment,
        due_at=moment + DELAY,
    )
    session.add(act)
    await session.flush()
    # Last: it holds the lock of the log.
    for one in former:
        await append(session, by, Act("pending_act.cancel", "pending_act", str(one.id), pending_act_id=one.id))
    return act


async def require_second_person(session: AsyncSession, act: PendingAct, by: Principal) -> None:
    """SecondPersonNeeded unless this is somebody who could not have asked for it themselves."""
    if by.key_id == act.asked_by or by.role not in act.roles:
        raise SecondPersonNeeded
    if await _origin(session, by.key_id) == await _origin(session, act.asked_by):
        raise SecondPersonNeeded("Both keys come from the same one. It is done when its day is over.")


async def _origin(session: AsyncSession, key_id: UUID) -> UUID | None:
    found: UUID | None = await session.scalar(_ORIGIN, {"key_id": key_id, "nobody": OPERATOR.key_id})
    return found


def require_waiting(act: PendingAct) -> None:
    """PendingActDecided."""
    if act.state != "waiting":
        raise PendingActDecided(f"Its state is `{act.state}`.")


async def cancel(session: AsyncSession, ref: str, by: Principal) -> PendingAct:
    """Cancel an act: any owner, and the key that asked. PendingActNotFound, PendingActDecided, Forbidden."""
    act = await find(session, ref, by, locked=True)
    if not _may_cancel(act, by):
        raise Forbidden
    require_waiting(act)
    _decide(act, "cancelled", by.key_id)
    await session.flush()
    return act


def _may_cancel(act: PendingAct, by: Principal) -> bool:
    return by.role == "owner" or by.key_id == act.asked_by


def _decide(act: PendingAct, state: str, by: UUID | None, failure: str | None = None) -> None:
    act.state, act.decided_by, act.decided_at, act.failure, act.signer = state, by, now(), failure, None


def conclude(act: PendingAct, by: UUID | None, failure: str | None) -> None:
    """Note that it was carried out, or why it could not be. Whom it was about is forgotten."""
    _decide(act, "failed" if failure else "done", by, failure)


def cancel_for_ended_key(act: PendingAct) -> None:
    """Nobody decided it: the key that asked has expired, or was ended, meanwhile."""
    _decide(act, "cancelled", None, "key-ended")


async def forget_person(session: AsyncSession, signer: bytes) -> None:
    """What waits about somebody who is gone needs no more waiting. What is being carried out is passed over."""
    about = select(PendingAct.id).where(PendingAct.signer == signer).with_for_update(skip_locked=True)
    values = {"state": "cancelled", "signer": None, "decided_at": now()}
    await session.execute(update(PendingAct).where(PendingAct.id.in_(about.scalar_subquery())).values(**values))


def is_waited_for(verb: str, object_id: ColumnElement[UUID] | InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """Whether an act of this verb waits to be done to what has this id: it counts no longer among what remains."""
    waiting = (PendingAct.state == "waiting", PendingAct.verb == verb, PendingAct.object_id == object_id)
    return select(PendingAct.id).where(*waiting).exists()


def waiting_about(signer: bytes) -> Select[PendingAct]:
    """What waits about this person."""
    return select(PendingAct).where(PendingAct.signer == signer)
