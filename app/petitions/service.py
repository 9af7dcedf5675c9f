"""The life of a petition: draft, change, publish, close, reopen, archive, moderate. Goals are in `milestones.py`.

Every change first locks the petition's row and writes down what the clock has changed meanwhile (`lock`): so each verb
sees the state that everybody else sees. Signing never locks this row and never waits for it.
"""

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns import queries as campaigns
from app.kit.problems import Conflict, NotFound
from app.kit.text.fields import changed
from app.organizations.principals import Principal
from app.petitions import outbox, queries
from app.petitions.confirmation import check_choice, choose
from app.petitions.models import Petition, PetitionMilestone, PetitionText
from app.petitions.queries import STATE_NOW
from app.petitions.schemas import ModerationBody, PetitionBody, PetitionChanges
from app.petitions.times import check_ahead, check_day, check_times

_A_LITTLE = timedelta(microseconds=1)


class PetitionNotFound(NotFound):
    """There is no such petition."""

    slug = "petition-not-found"


class SlugTaken(Conflict):
    """A petition with this slug exists already."""

    slug = "slug-taken"


class WrongState(Conflict):
    """The petition's state does not allow this."""

    slug = "wrong-state"


class CampaignNotRunning(Conflict):
    """The petition's campaign is not public yet, or has ended."""

    slug = "campaign-not-running"


class OwnLocale(Conflict):
    """These are the words of the petition's own locale, which are changed with the petition itself."""

    slug = "own-locale"


class Transitioned(NamedTuple):
    """A petition the clock has opened or closed."""

    id: UUID
    slug: str
    state: str


async def create(session: AsyncSession, campaign_id: UUID, body: PetitionBody) -> Petition:
    """Draft a petition; SlugTaken, WrongTimes, OwnLocale, UnprovenNotAccepted, NothingUnproven."""
    check_choice(body.confirmation, accept_unproven=body.accept_unproven)
    if body.locale in body.texts:
        raise OwnLocale("Leave them out of `texts`: the petition's own words are those of its own locale.")
    moment = await queries.moment(session)
    check_times(body.opens_at, body.closes_at, moment)
    check_ahead(body.personal_data_until, moment)
    check_day(body.closes_at, body.personal_data_until)
    petition = Petition(campaign_id=campaign_id, **body.model_dump(exclude={"texts", "milestones"}))
    session.add(petition)
    try:
        await session.flush()
    except IntegrityError:
        raise SlugTaken from None
    _add_further(session, petition.id, body)
    await session.flush()
    return petition


def _add_further(session: AsyncSession, petition_id: UUID, body: PetitionBody) -> None:
    for locale, words in body.texts.items():
        session.add(PetitionText(petition_id=petition_id, locale=locale, **words.model_dump()))
    for milestone in body.milestones:
        threshold = milestone.signature_count
        session.add(PetitionMilestone(petition_id=petition_id, threshold_count=threshold, label=milestone.label))


async def find(session: AsyncSession, ref: str, principal: Principal | None) -> Petition:
    """A petition this principal may see, by id or slug; PetitionNotFound."""
    petition = await queries.find(session, ref, principal)
    if petition is None:
        raise PetitionNotFound
    return petition


async def lock(session: AsyncSession, ref: str) -> Petition:
    """The petition, locked until the commit, in the state that it has by the clock now; PetitionNotFound."""
    petition = await queries.find_locked(session, ref)
    if petition is None:
        raise PetitionNotFound
    before, petition.state = petition.state, await queries.state_now(session, petition.id)
    times = petition.opens_at, petition.closes_at
    transition = outbox.Transition(petition.id, before, petition.state, *times, petition.moderation)
    await outbox.publish_transitions(session, [transition])
    return petition


async def change(session: AsyncSession, ref: str, body: PetitionChanges) -> tuple[Petition, date | None]:
    """Change what the body names; PetitionNotFound, WrongState, WrongTimes, and what `confirmation.choose` raises.

    A nearer end of retention is not set but returned: destroyed data is gone for good, so it waits.
    """
    petition = await lock(session, ref)
    given = changed(body)
    accept_unproven = given.pop("accept_unproven", None)
    choose(petition, given.pop("confirmation", petition.confirmation), accept_unproven=accept_unproven)
    named = {name: value for name, value in given.items() if value != getattr(petition, name)}
    _check_new_times(petition, named, await queries.moment(session))
    nearer: date | None = named.pop("personal_data_until") if _brings_nearer(petition, named) else None
    for name, value in named.items():
        setattr(petition, name, value)
    await session.flush()
    return petition, nearer


def _brings_nearer(petition: Petition, named: dict[str, Any]) -> bool:
    until, wanted = petition.personal_data_until, named.get("personal_data_until")
    # Nobody has signed a draft.
    return wanted is not None and petition.state != "draft" and (until is None or wanted < until)


def _check_new_times(petition: Petition, named: dict[str, Any], moment: datetime) -> None:
    if "opens_at" in named and petition.state != "draft":
        raise WrongState("`opens_at` can be changed only while the petition is a draft.")
    if "closes_at" in named and petition.state not in {"draft", "open"}:
        raise WrongState("`closes_at` can be changed only until the petition is closed; reopen it.")
    if "opens_at" in named or "closes_at" in named:
        opens_at = named.get("opens_at", petition.opens_at)
        check_times(opens_at, named.get("closes_at", petition.closes_at), moment)
    if "personal_data_until" in named and petition.personal_data_destroyed_at is not None:
        raise WrongState("`personal_data_until` cannot be changed any more: the personal data is destroyed.")
    check_ahead(named.get("personal_data_until"), moment)
    if "closes_at" in named or "personal_data_until" in named:
        closes_at = named.get("closes_at", petition.closes_at)
        check_day(closes_at, named.get("personal_data_until", petition.personal_data_until))


async def publish(session: AsyncSession, ref: str) -> Petition:
    """Open a draft now, however early; an open one stays open. PetitionNotFound, WrongState, CampaignNotRunning."""
    petition = await lock(session, ref)
    if petition.state == "open":
        return petition
    _expect(petition, "draft", "published")
    if await campaigns.state_of(session, petition.campaign_id) not in {"active", "paused"}:
        raise CampaignNotRunning
    moment = await queries.moment(session)
    if petition.closes_at is not None and petition.closes_at <= moment:
        raise WrongState("`closes_at` has passed: change it, then publish.")
    if petition.opens_at is None or petition.opens_at > moment:
        petition.opens_at = moment
    petition.state = "open"
    await session.flush()
    if petition.moderation == "approved":
        await outbox.publish_published(session, petition.id, petition.opens_at)
    return petition


async def close(session: AsyncSession, ref: str) -> Petition:
    """Close an open petition now; a closed one stays closed. PetitionNotFound, WrongState."""
    petition = await lock(session, ref)
    if petition.state == "closed":
        return petition
    _expect(petition, "open", "closed")
    moment = await queries.moment(session)
    # If the clock was set back, it must still not close before it opened.
    ended = moment if petition.opens_at is None else max(moment, petition.opens_at + _A_LITTLE)
    petition.state, petition.closes_at = "closed", ended
    await session.flush()
    if petition.moderation == "approved":
        await outbox.publish_closed(session, petition.id, ended)
    return petition


async def reopen(session: AsyncSession, ref: str, closes_at: datetime | None) -> Petition:
    """Open a closed petition again, until `closes_at` if given; PetitionNotFound, WrongState, WrongTimes."""
    petition = await lock(session, ref)
    moment = await queries.moment(session)
    check_times(petition.opens_at, closes_at, moment)
    check_day(closes_at, petition.personal_data_until)
    if petition.state != "open":
        _expect(petition, "closed", "reopened")
        _expect_personal_data(petition, moment)
        petition.state, petition.closes_at = "open", None
        if petition.moderation == "approved":
            await outbox.publish_published(session, petition.id, moment)
    if closes_at is not None:
        petition.closes_at = closes_at
    await session.flush()
    return petition


async def find_to_archive(session: AsyncSession, ref: str) -> Petition:
    """A petition that can be archived or is; PetitionNotFound, WrongState."""
    petition = await lock(session, ref)
    if petition.state != "archived":
        _expect(petition, "closed", "archived")
    return petition


async def archive(session: AsyncSession, ref: str) -> Petition:
    """Archive a closed petition for good; an archived one stays so. PetitionNotFound, WrongState."""
    petition = await find_to_archive(session, ref)
    petition.state = "archived"
    await session.flush()
    return petition


def _expect(petition: Petition, state: str, wanted: str) -> None:
    if petition.state != state:
        raise WrongState(f"The petition's state is `{petition.state}`; only `{state}` can be {wanted}.")


def _expect_personal_data(petition: Petition, moment: datetime) -> None:
    if petition.personal_data_destroyed_at is not None:
        raise WrongState("The personal data is destroyed: who has signed would not be known again.")
    # The worker may be destroying it at this moment.
    if petition.personal_data_until is not None and petition.personal_data_until <= moment.date():
        raise WrongState("`personal_data_until` has come: move it, then reopen.")


async def moderate(session: AsyncSession, ref: str, body: ModerationBody) -> Petition:
    """Decide whether the public may see and sign it; PetitionNotFound.

    A first approval publishes the message that it is open, or closed.
    """
    petition = await lock(session, ref)
    newly_approved = body.moderation == "approved" and petition.moderation != "approved"
    if newly_approved and petition.state == "open":
        await outbox.publish_published(session, petition.id, await queries.moment(session))
    if newly_approved and petition.state == "closed":
        await outbox.publish_closed(session, petition.id, petition.closes_at)
    petition.moderation, petition.moderation_reason = body.moderation, body.reason
    await session.flush()
    return petition


async def apply_scheduled_transitions(session: AsyncSession) -> list[Transitioned]:
    """Write down what the clock has changed: drafts that have opened, open petitions that have closed.

    Every read takes the clock into account by itself, so nobody sees a difference; `updated_at` stays too. A petition
    that somebody is changing at this moment is passed over: that change writes it down.
    """
    due = (
        select(Petition.id, Petition.state)
        .where(Petition.state.in_(("draft", "open")), Petition.state != STATE_NOW)
        .with_for_update(skip_locked=True)
        .subquery()
    )
    returned = (Petition.id, due.c.state, Petition.state, Petition.opens_at, Petition.closes_at)
    statement = (
        update(Petition)
        .where(Petition.id == due.c.id)
        .values(state=STATE_NOW, updated_at=Petition.updated_at)
        .returning(*returned, Petition.moderation, Petition.slug)
    )
    rows = (await session.execute(statement, execution_options={"synchronize_session": False})).all()
    await outbox.publish_transitions(session, (outbox.Transition(*row[:6]) for row in sorted(rows)))
    return [Transitioned(row[0], row[6], row[2]) for row in rows]
