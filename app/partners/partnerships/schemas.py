"""What campaigners offer a partner, and what both are told of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from app.kit.text.countries import Country
from app.kit.text.fields import Body, Flag, Line, Slug, Text, View
from app.partners.models import PartnershipState

Answer = Annotated[
    Literal["given", "asked", "optional"],
    Field(description="a signature must bring a consent, must bring a yes or a no, or may bring either"),
]


class ConsentTerm(Body):
    """What a signature must say about one organization."""

    organization: Annotated[Slug, Field(examples=["sisters-of-kampala"])]
    answer: Answer


def _each_once(consents: Sequence[ConsentTerm]) -> Sequence[ConsentTerm]:
    if len({consent.organization for consent in consents}) < len(consents):
        raise ValueError("must name an organization once only")
    return consents


class InvitationBody(Body):
    """An invitation and its terms, which never change: others are a new invitation."""

    organization: Annotated[Slug, Field(description="the partner", examples=["sisters-of-kampala"])]
    terms: Annotated[Text, Field(description="in writing", examples=["Show people the whole text they sign."])]
    petitions: Annotated[
        Annotated[list[Line], Field(max_length=1000)] | None,
        Field(
            description="ids or slugs of those it is about, to feed and to hear of; without it all of the campaign, "
            "those to come too"
        ),
    ] = None
    consents: Annotated[list[ConsentTerm], Field(max_length=20, default_factory=list), AfterValidator(_each_once)]
    receives_signers: Annotated[Flag, Field(description="whether it may have those who consented to it")] = False
    default_country: Annotated[Country | None, Field(description="for signatures that come without one")] = None


class ConsentTermView(View):
    """What a signature must say about one organization."""

    organization: str
    answer: Answer


class PartnershipView(View):
    """A partner and a campaign, under terms. `*_by` are ids of the keys it was done with."""

    id: UUID
    campaign_id: UUID
    campaign: Annotated[str, Field(examples=["equal-everywhere"])]
    organization_id: UUID
    organization: Annotated[str, Field(examples=["sisters-of-kampala"])]
    state: PartnershipState
    terms: str
    petition_ids: Annotated[list[UUID] | None, Field(description="null is all of the campaign")]
    consents: list[ConsentTermView]
    receives_signers: bool
    default_country: str | None
    invited_by: UUID
    answered_by: UUID | None
    ended_by: UUID | None
    created_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
