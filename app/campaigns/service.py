"""The life of a campaign: create, change, targets, updates, outcome."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns import queries
from app.campaigns.models import Campaign, CampaignTarget, CampaignUpdate
from app.campaigns.schemas import CampaignBody, CampaignChanges, GoalBody, TargetBody, UpdateBody
from app.kit.clock import now
from app.kit.problems import Conflict, Invalid, NotFound
from app.kit.text.fields import as_id, changed
from app.organizations.models import PendingAct
from app.organizations.principals import OPERATOR, Principal

_ENDINGS = {"won", "lost"}
# The states that each state may change to. An ending can be taken back, to correct a mistake.
_NEXT = {
    "draft": {"active", "archived"},
    "active": {"paused", "archived", *_ENDINGS},
    "paused": {"active", "archived", *_ENDINGS},
    "won": {"active", "archived"},
    "lost": {"active", "archived"},
    "archived": set[str](),
}


class CampaignNotFound(NotFound):
    """There is no such campaign."""

    slug = "campaign-not-found"


class UpdateNotFound(NotFound):
    """There is no such update of this campaign."""

    slug = "update-not-found"


class SlugTaken(Conflict):
    """Another campaign has this slug."""

    slug = "slug-taken"


class StateNotReachable(Conflict):
    """A campaign cannot go from its state to this one."""

    slug = "state-not-reachable"


class OutcomeMissing(Invalid):
    """A campaign that is won or lost needs an outcome."""

    slug = "outcome-missing"


async def find(session: AsyncSession, ref: str, principal: Principal | None) -> Campaign:
    """A campaign this principal may see, by id or slug; CampaignNotFound."""
    campaign = await queries.find(session, ref, principal)
    if campaign is None:
        raise CampaignNotFound
    return campaign


async def _find_to_change(session: AsyncSession, ref: str, principal: Principal) -> Campaign:
    """The same, locked: of two changes at once the second waits for the first."""
    campaign = await session.scalar(queries.one_of(ref, principal).with_for_update())
    if campaign is None:
        raise CampaignNotFound
    return campaign


async def create_campaign(session: AsyncSession, body: CampaignBody) -> Campaign:
    """A new campaign with its targets; SlugTaken."""
    goal = _goal_columns(body.goal)
    campaign = Campaign(slug=body.slug, title=body.title, story=body.story, state=body.state, **goal)
    session.add(campaign)
    try:
        await session.flush()
    except IntegrityError:
        raise SlugTaken from None
    await _add_targets(session, campaign.id, body.targets)
    return campaign


async def change_campaign(
    session: AsyncSession, ref: str, principal: Principal, body: CampaignChanges
) -> tuple[Campaign, bool]:
    """Change what the body names, and whether it is to be archived too: that is for good, so it waits.

    CampaignNotFound, StateNotReachable, OutcomeMissing.
    """
    campaign = await _find_to_change(session, ref, principal)
    columns = _changed_columns(body)
    archives = columns.get("state") == "archived" != campaign.state
    for field, value in columns.items():
        if field == "state" and value != campaign.state and value not in _NEXT[campaign.state]:
            raise StateNotReachable
        if not (archives and field == "state"):
            setattr(campaign, field, value)
    if campaign.state in _ENDINGS and campaign.outcome is None:
        raise OutcomeMissing
    await session.flush()
    return campaign, archives


async def archive_waited(session: AsyncSession, act: PendingAct) -> None:
    """Archive the campaign of an act that waited; CampaignNotFound."""
    campaign = await _find_to_change(session, str(act.object_id), OPERATOR)
    campaign.state = "archived"
    await session.flush()


def _changed_columns(body: CampaignChanges) -> dict[str, Any]:
    columns = changed(body)
    if columns.pop("goal", None) is not None:
        columns |= _goal_columns(body.goal)
    return columns


def _goal_columns(goal: GoalBody) -> dict[str, Any]:
    metric = goal.metric
    if metric is None:
        numbers = dict.fromkeys(("name", "start", "target", "current"))
    else:
        numbers = metric.model_dump()
        if metric.current is None:
            numbers["current"] = metric.start
    return {"goal_statement": goal.statement} | {f"metric_{part}": value for part, value in numbers.items()}


async def replace_targets(
    session: AsyncSession, ref: str, principal: Principal, bodies: Sequence[TargetBody]
) -> list[CampaignTarget]:
    """Replace the campaign's targets by these, in this order; CampaignNotFound."""
    campaign = await _find_to_change(session, ref, principal)
    await session.execute(delete(CampaignTarget).where(CampaignTarget.campaign_id == campaign.id))
    return await _add_targets(session, campaign.id, bodies)


async def _add_targets(session: AsyncSession, campaign_id: UUID, bodies: Sequence[TargetBody]) -> list[CampaignTarget]:
    targets = [CampaignTarget(campaign_id=campaign_id, **body.model_dump()) for body in bodies]
    session.add_all(targets)
    await session.flush()
    return targets


async def add_update(session: AsyncSession, campaign: Campaign, body: UpdateBody) -> CampaignUpdate:
    """Tell news of the campaign, dated today (UTC) unless the body says otherwise."""
    published_on = body.published_on or now().date()
    update = CampaignUpdate(campaign_id=campaign.id, published_on=published_on, title=body.title, text=body.text)
    session.add(update)
    await session.flush()
    return update


async def delete_update(session: AsyncSession, campaign: Campaign, ref: str) -> None:
    """Take news back; UpdateNotFound."""
    id_ = as_id(ref)
    update = await session.scalar(queries.updates_of(campaign.id).where(CampaignUpdate.id == id_))
    if update is None:
        raise UpdateNotFound
    await session.delete(update)
    await session.flush()
