"""Queries about campaigns. Who may see which is decided here and nowhere else."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns.models import Campaign, CampaignTarget, CampaignUpdate
from app.kit.text.fields import as_id
from app.organizations.principals import Principal

_NEWEST = 20


def visible_to(principal: Principal | None) -> Select[Campaign]:
    """The campaigns this principal may see: staff all, everybody else all but drafts."""
    query = select(Campaign)
    if principal is not None and principal.is_staff:
        return query
    return query.where(Campaign.state != "draft")


def one_of(ref: str, principal: Principal | None) -> Select[Campaign]:
    """The campaign of this id or slug, if this principal may see it."""
    id_ = as_id(ref)
    return visible_to(principal).where(Campaign.id == id_ if id_ else Campaign.slug == ref)


async def find(session: AsyncSession, ref: str, principal: Principal | None) -> Campaign | None:
    """A campaign by id or slug, if this principal may see it."""
    return await session.scalar(one_of(ref, principal))


async def state_of(session: AsyncSession, campaign_id: UUID) -> str | None:
    """The state of a campaign."""
    return await session.scalar(select(Campaign.state).where(Campaign.id == campaign_id))


async def targets_of(session: AsyncSession, campaign_id: UUID) -> list[CampaignTarget]:
    """The targets of a campaign, in the order in which staff gave them."""
    query = select(CampaignTarget).where(CampaignTarget.campaign_id == campaign_id)
    return list(await session.scalars(query.order_by(CampaignTarget.id)))


def updates_of(campaign_id: UUID) -> Select[CampaignUpdate]:
    """All updates of a campaign."""
    return select(CampaignUpdate).where(CampaignUpdate.campaign_id == campaign_id)


async def newest_updates_of(session: AsyncSession, campaign_id: UUID) -> list[CampaignUpdate]:
    """The newest updates, the newest first."""
    query = updates_of(campaign_id).order_by(CampaignUpdate.id.desc()).limit(_NEWEST)
    return list(await session.scalars(query))
