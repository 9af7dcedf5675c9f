"""Writing what webhook messages tell, at the moment they are sent and from what is true then.

Nobody is named who has taken a consent back, withdrawn or been erased since the message was made. Of petitions and of
signers a partner is told nothing that its partnership does not cover any more; withdrawals and erasures it is told as
they were announced, also when its partnership has ended. When nothing is left to tell there is no body.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Row, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns.models import Campaign
from app.kit.crypto.sealing import KeyRing
from app.kit.webhooks.message_types import Message
from app.organizations.models import Organization
from app.partners.outbound.feed.feed import Span, signers_in
from app.partners.outbound.message_types.schemas import (
    CountedSignatures,
    ErasedPerson,
    MilestoneNews,
    PetitionCampaign,
    PetitionNews,
    ToldPetition,
    TrialNews,
    WithdrawnSignature,
)
from app.partners.partnerships.terms import has_partnership
from app.people.pseudonyms import signature_id
from app.petitions.models import Petition
from app.petitions.presenters import links_of
from app.petitions.queries import STATE_NOW

_COVERED = text(has_partnership("organizations.id", "petitions"))
_SAID_IN_A_TEST = "This is a test."

Messages: TypeAlias = Sequence[Message]
# The data of each of these messages; None when there is nothing left to tell.
Written: TypeAlias = Sequence[BaseModel | None]


async def write_petitions(session: AsyncSession, ring: KeyRing, messages: Messages) -> Written:
    """A petition that is public still, to the movement and to partners whose partnership covers it."""
    del ring
    pairs = [(message.organization_id, UUID(message.content["petition_id"])) for message in messages]
    shown = await _petitions_for(session, pairs)
    return [_news(shown.get(pair), message.content) for pair, message in zip(pairs, messages, strict=True)]


def _news(petition: ToldPetition | None, content: Mapping[str, Any]) -> PetitionNews | None:
    if petition is None:
        return None
    values = {**content, "petition": petition}
    return (MilestoneNews if "threshold_count" in content else PetitionNews).model_validate(values)


async def _petitions_for(
    session: AsyncSession, pairs: Collection[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], ToldPetition]:
    """Petitions by organization and petition, as far as that organization is told of them."""
    query = (
        select(Organization.id, Petition, STATE_NOW, Campaign)
        .join_from(Petition, Campaign, Campaign.id == Petition.campaign_id)
        .join(Organization, or_(Organization.kind == "movement", _COVERED))
        .where(
            Organization.id.in_({organization_id for organization_id, _ in pairs}),
            Petition.id.in_({petition_id for _, petition_id in pairs}),
            STATE_NOW != "draft",
            Petition.moderation == "approved",
        )
    )
    # Rows that were read before in this session are read anew.
    rows = await session.execute(query.execution_options(populate_existing=True))
    return {(row[0], row[1].id): _shown(row) for row in rows}


def _shown(row: Row[UUID, Petition, str, Campaign]) -> ToldPetition:
    _, petition, state, campaign = row
    return ToldPetition.model_validate(
        {
            "id": petition.id,
            "slug": petition.slug,
            "title": petition.title,
            "state": state,
            "campaign": PetitionCampaign(id=campaign.id, slug=campaign.slug, title=campaign.title),
            "signature_goal": petition.signature_goal,
            "opens_at": petition.opens_at,
            "closes_at": petition.closes_at,
            "links": links_of(petition),
        }
    )


async def write_signers(session: AsyncSession, ring: KeyRing, messages: Messages) -> Written:
    """Up to 500 signers of a span of the feed, as far as the organization may be told of them now."""
    told: list[CountedSignatures | None] = []
    for message in messages:
        span = Span(message.organization_id, message.content["from"], message.content["to"])
        signers = await signers_in(session, ring, span)
        told.append(CountedSignatures(signatures=signers) if signers else None)
    return told


async def write_withdrawals(session: AsyncSession, ring: KeyRing, messages: Messages) -> Written:
    """A withdrawal as it was announced, whatever has become of the partnership; none when its petition is gone."""
    ids = {UUID(message.content["petition_id"]) for message in messages}
    rows = await session.execute(select(Petition.id, Petition.slug).where(Petition.id.in_(ids)))
    slugs = {str(id_): slug for id_, slug in rows}
    return [_withdrawn(ring, message, slugs.get(message.content["petition_id"])) for message in messages]


def _withdrawn(ring: KeyRing, message: Message, slug: str | None) -> WithdrawnSignature | None:
    if slug is None:
        return None
    (told,) = _told_ids(ring, message, [message.content["signature_id"]])
    return WithdrawnSignature.model_validate({**message.content, "signature_id": told, "petition": slug})


async def write_erasures(session: AsyncSession, ring: KeyRing, messages: Messages) -> Written:
    """An erasure as it was announced, whatever has become of the partnership."""
    del session
    return [
        ErasedPerson.model_validate(
            {**message.content, "signature_ids": _told_ids(ring, message, message.content["signature_ids"])}
        )
        for message in messages
    ]


def _told_ids(ring: KeyRing, message: Message, ids: Collection[str]) -> list[str]:
    """The pseudonyms: also of what the version before has written, which kept our own ids."""
    return list(dict.fromkeys(signature_id(ring, message.organization_id, UUID(id_)) for id_ in ids))


async def write_tests(session: AsyncSession, ring: KeyRing, messages: Messages) -> Written:
    """A greeting."""
    del session, ring
    return [TrialNews(message=message.content.get("message", _SAID_IN_A_TEST)) for message in messages]
