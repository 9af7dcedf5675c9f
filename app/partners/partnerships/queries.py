"""Questions about partnerships. Who may see which is decided here and nowhere else."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns.models import Campaign
from app.kit.text.fields import as_id
from app.organizations.models import Organization
from app.organizations.principals import Principal
from app.partners.models import Partnership
from app.partners.partnerships.terms import named
from app.petitions.models import Petition

_STANDING = ("invited", "active")


def visible_to(principal: Principal | None) -> Select[Partnership]:
    """The partnerships this principal may see: staff all, a partner its own, everybody else none."""
    query = select(Partnership)
    if principal is not None and principal.is_staff:
        return query
    own = principal.organization_id if principal is not None and principal.role == "partner" else None
    return query.where(Partnership.organization_id == own)


async def find(session: AsyncSession, ref: str, principal: Principal | None) -> Partnership | None:
    """A partnership by its id, if this principal may see it."""
    return await session.scalar(visible_to(principal).where(Partnership.id == as_id(ref)))


async def lock_beside(session: AsyncSession, found: Partnership) -> list[Partnership]:
    """This partnership and the open ones of the same two, read once they are locked.

    They are locked in one order: of two who accept and end at once, each sees what the other has done.
    """
    query = (
        select(Partnership)
        .where(
            Partnership.organization_id == found.organization_id,
            Partnership.campaign_id == found.campaign_id,
            or_(Partnership.id == found.id, Partnership.state.in_(_STANDING)),
        )
        .order_by(Partnership.id)
        .with_for_update()
    )
    return list(await session.scalars(query.execution_options(populate_existing=True)))


async def petition_ids(session: AsyncSession, campaign_id: UUID, refs: Collection[str]) -> dict[str, UUID]:
    """The petitions of a campaign that these ids and slugs name, drafts included, by the reference."""
    query = select(Petition.id, Petition.slug).where(Petition.campaign_id == campaign_id, named(refs))
    found: dict[object, UUID] = {}
    for id_, slug in await session.execute(query):
        found |= {id_: id_, slug: id_}
    return {ref: found[key] for ref in refs if (key := as_id(ref) or ref) in found}


async def organization_slugs(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    """What these organizations are called in addresses."""
    rows = await session.execute(select(Organization.id, Organization.slug).where(Organization.id.in_(ids)))
    return dict(rows.all())


async def campaign_slugs(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    """What these campaigns are called in addresses."""
    rows = await session.execute(select(Campaign.id, Campaign.slug).where(Campaign.id.in_(ids)))
    return dict(rows.all())


async def known_organizations(session: AsyncSession, slugs: Collection[str]) -> dict[str, Organization]:
    """Those of these organizations that there are, by slug."""
    found = await session.scalars(select(Organization).where(Organization.slug.in_(slugs)))
    return {organization.slug: organization for organization in found}
