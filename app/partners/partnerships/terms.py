"""Terms of a partnership: which petitions it covers, which consents must be brought, whether signers are received.

Everything that comes in is checked against them. What they do not cover does not exist for the partner: it cannot tell
a petition that is somebody else's from one that does not exist.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Text, any_, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Uuid

from app.kit.problems import Forbidden
from app.kit.text.fields import as_id
from app.partners.models import Partnership
from app.petitions import queries as petitions
from app.petitions.clear_text import ClearText, clear_text_of
from app.petitions.models import Petition


def has_partnership(organization: str, petition: str, states: str = "'active'", *, receiving: bool = False) -> str:
    """SQL: whether an organization (an id) has a partnership in one of these states that covers a petition (an alias).

    What is covered is what `Terms.covers` says. `receiving`: one that lets it receive signers.
    """
    return f"""EXISTS (
        SELECT FROM partnerships r WHERE r.organization_id = {organization} AND r.campaign_id = {petition}.campaign_id
        AND (r.petition_ids IS NULL OR {petition}.id = ANY (r.petition_ids))
        AND r.state IN ({states}) {"AND r.receives_signers" if receiving else ""}
    )"""


def receives(organization: str, petition: str) -> str:
    """SQL: whether an organization (an id) may be told now of the signers of a petition (an alias) who consented to it.

    The movement always; a partner while its terms say so and cover the petition, and the public may see that.
    """
    return f"""(
        (SELECT o.kind FROM organizations o WHERE o.id = {organization}) = 'movement'
        OR {petition}.moderation = 'approved' AND {has_partnership(organization, petition, receiving=True)}
    )"""


class NoPartnership(Forbidden):
    """This organization has no partnership that is active."""

    slug = "no-partnership"


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one active partnership. `petition_ids`: None is all of the campaign.

    `consents` says by an organization's slug whether a signature must bring a consent to it (`given`), a word on it
    (`asked`), or may (`optional`).
    """

    partnership_id: UUID
    campaign_id: UUID
    petition_ids: frozenset[UUID] | None
    consents: Mapping[str, str]
    receives_signers: bool
    default_country: str | None

    def covers(self, petition_id: UUID, campaign_id: UUID) -> bool:
        """Whether they cover this petition: `has_partnership` says the same in SQL."""
        return campaign_id == self.campaign_id and (self.petition_ids is None or petition_id in self.petition_ids)


@dataclass(frozen=True, slots=True)
class CoveredPetition:
    """A petition that a partner may feed, and under which terms. Whether it is open is decided by who inserts."""

    id: UUID
    slug: str
    campaign_id: UUID
    title: str
    opens_at: datetime | None
    allowed_countries: frozenset[str] | None
    clear_text: ClearText
    confirmation: str
    terms: Terms


async def terms_of(session: AsyncSession, organization_id: UUID) -> list[Terms]:
    """The terms of an organization's active partnerships, one for each campaign at the most."""
    query = select(Partnership).where(Partnership.organization_id == organization_id, Partnership.state == "active")
    return [_terms(partnership) for partnership in await session.scalars(query.order_by(Partnership.id))]


def _terms(partnership: Partnership) -> Terms:
    ids = partnership.petition_ids
    return Terms(
        partnership_id=partnership.id,
        campaign_id=partnership.campaign_id,
        petition_ids=None if ids is None else frozenset(ids),
        consents={consent["organization"]: consent["answer"] for consent in partnership.consents},
        receives_signers=partnership.receives_signers,
        default_country=partnership.default_country,
    )


async def covered_petitions(
    session: AsyncSession, organization_id: UUID, refs: Collection[str]
) -> dict[str, CoveredPetition]:
    """Those of these petitions (ids or slugs) that the organization may feed, by the reference they were asked for.

    What is unknown, not public or not covered by active terms is missing. Two statements, however many are asked for.
    """
    terms = {one.campaign_id: one for one in await terms_of(session, organization_id)}
    if not terms or not refs:
        return {}
    public = petitions.visible_to(None).where(Petition.campaign_id.in_(terms), named(refs))
    named_by: dict[object, CoveredPetition] = {}
    for petition in await session.scalars(public):
        covered = _covered(petition, terms[petition.campaign_id])
        if covered.terms.covers(covered.id, covered.campaign_id):
            named_by |= {covered.id: covered, covered.slug: covered}
    return {ref: named_by[key] for ref in refs if (key := as_id(ref) or ref) in named_by}


def named(refs: Collection[str]) -> ColumnElement[bool]:
    """The petitions of these ids or slugs; as two arrays, for a statement takes no more than 32,767 values."""
    ids = [id_ for id_ in map(as_id, refs) if id_]
    # PostgreSQL refuses a NUL, and the driver what is no text at all; nothing is named so.
    slugs = [ref for ref in refs if ref.isascii() and "\0" not in ref]
    of_ids = Petition.id == any_(literal(ids, ARRAY(Uuid)))
    return or_(of_ids, Petition.slug == any_(literal(slugs, ARRAY(Text))))


def _covered(petition: Petition, terms: Terms) -> CoveredPetition:
    countries = petition.allowed_countries
    return CoveredPetition(
        id=petition.id,
        slug=petition.slug,
        campaign_id=petition.campaign_id,
        title=petition.title,
        opens_at=petition.opens_at,
        allowed_countries=frozenset(countries) if countries else None,
        clear_text=clear_text_of(petition),
        confirmation=petition.confirmation,
        terms=terms,
    )


async def receiving_campaigns(session: AsyncSession, organization_id: UUID) -> set[UUID]:
    """The campaigns whose signers an organization may receive, if they consented to it."""
    return {one.campaign_id for one in await terms_of(session, organization_id) if one.receives_signers}
