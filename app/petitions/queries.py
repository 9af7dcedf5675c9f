"""Queries about petitions. Who may see which, and whether one accepts signatures now, is decided here alone."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, exists, false, func, or_, select, tuple_
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.kit.text.fields import as_id
from app.organizations.principals import Principal
from app.petitions.models import Petition, PetitionMilestone, PetitionText


def _state_now(petition: type[Petition]) -> ColumnElement[str]:
    opened = or_(petition.state == "open", and_(petition.state == "draft", petition.opens_at <= func.now()))
    ended = func.coalesce(petition.closes_at <= func.now(), False)
    return case((and_(opened, ended), "closed"), (opened, "open"), else_=petition.state)


def _accepting(petition: type[Petition]) -> ColumnElement[bool]:
    return and_(_state_now(petition) == "open", petition.moderation == "approved")


def _as_sql(condition: ColumnElement[bool]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return f"({condition.compile(dialect=dialect, compile_kwargs={'literal_binds': True})})"


# The state by the clock: a draft opens at `opens_at`, an open petition closes at `closes_at`.
STATE_NOW = _state_now(Petition)
ACCEPTING = _accepting(Petition)
# Whether its tallies may hold what nobody has proven: `confirmation.takes_unproven` says the same.
TAKES_UNPROVEN = or_(Petition.confirmation == "none", Petition.accept_unproven)
# The condition on accepting as text, for statements in plain SQL that call the petition `p`.
ACCEPTING_SQL = _as_sql(_accepting(aliased(Petition, name="p")))
# When the oldest change of state by the clock was due that is not written down; NULL when there is none.
OLDEST_TRANSITION = select(
    func.min(case((Petition.state == "draft", Petition.opens_at), else_=Petition.closes_at))
).where(Petition.state.in_(("draft", "open")), Petition.state != STATE_NOW)


def visible_to(principal: Principal | None) -> Select[Petition]:
    """The petitions this principal may see: staff all, everybody else what is public."""
    query = select(Petition)
    if principal is not None and principal.is_staff:
        return query
    return query.where(STATE_NOW != "draft", Petition.moderation == "approved")


def listed(principal: Principal | None, state: str | None) -> Select[Petition]:
    """The petitions this principal may see, of one state if one is given."""
    query = visible_to(principal)
    return query if state is None else query.where(STATE_NOW.in_((state,)))


async def find(session: AsyncSession, ref: str, principal: Principal | None) -> Petition | None:
    """A petition by id or slug, if this principal may see it."""
    return await session.scalar(visible_to(principal).where(_named(ref)))


async def any_id(session: AsyncSession, ref: str) -> UUID | None:
    """The id of a petition by id or slug, whether or not anybody may see it."""
    return await session.scalar(select(Petition.id).where(_named(ref)))


async def find_locked(session: AsyncSession, ref: str) -> Petition | None:
    """A petition by id or slug, locked, as it is after all changes under way."""
    query = select(Petition).where(_named(ref)).with_for_update()
    return await session.scalar(query.execution_options(populate_existing=True))


def _named(ref: str) -> ColumnElement[bool]:
    id_ = as_id(ref)
    if id_ is not None:
        return Petition.id == id_
    # PostgreSQL refuses a text with a NUL in it; no slug has one.
    return Petition.slug == ref if "\0" not in ref else false()


async def moment(session: AsyncSession) -> datetime:
    """Now by the database's clock, which is the one that opens and closes petitions."""
    present: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return present


async def state_now(session: AsyncSession, petition_id: UUID) -> str:
    """The petition's state by the clock."""
    return (await states_now(session, [petition_id]))[petition_id]


async def states_now(session: AsyncSession, petition_ids: Collection[UUID]) -> dict[UUID, str]:
    """The states of these petitions by the clock."""
    rows = await session.execute(select(Petition.id, STATE_NOW).where(Petition.id.in_(petition_ids)))
    return dict(rows.all())


async def further_locales(session: AsyncSession, petition_ids: Collection[UUID]) -> dict[UUID, list[str]]:
    """The locales of these petitions' further texts, in order."""
    text = PetitionText
    query = select(text.petition_id, text.locale).where(text.petition_id.in_(petition_ids))
    found: dict[UUID, list[str]] = {petition_id: [] for petition_id in petition_ids}
    for petition_id, locale in await session.execute(query.order_by(text.petition_id, text.locale)):
        found[petition_id].append(locale)
    return found


async def texts(session: AsyncSession, keys: Collection[tuple[UUID, str]]) -> dict[UUID, PetitionText]:
    """The texts asked for by petition and locale, one locale per petition."""
    query = select(PetitionText).where(tuple_(PetitionText.petition_id, PetitionText.locale).in_(keys))
    return {text.petition_id: text for text in await session.scalars(query)} if keys else {}


async def milestones_of(session: AsyncSession, petition_id: UUID) -> list[PetitionMilestone]:
    """The petition's milestones, lowest first."""
    query = select(PetitionMilestone).where(PetitionMilestone.petition_id == petition_id)
    return list(await session.scalars(query.order_by(PetitionMilestone.threshold_count)))


async def lock_with_goal_reached(session: AsyncSession, petition_id: UUID, count: int) -> Petition | None:
    """The petition, locked, if this count reaches its goal and that has not been written down yet."""
    recorded = exists().where(
        PetitionMilestone.petition_id == Petition.id,
        PetitionMilestone.threshold_count == Petition.signature_goal,
        PetitionMilestone.reached_at.is_not(None),
    )
    query = select(Petition).where(
        Petition.id == petition_id,
        Petition.signature_goal <= count,
        or_(Petition.next_goal_automatic, ~recorded),
    )
    return await session.scalar(query.with_for_update().execution_options(populate_existing=True))
