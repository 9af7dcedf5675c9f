"""The bodies of the webhooks that are sent: `type`, `timestamp` and `data`, as Standard Webhooks recommends."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.partners.outbound.feed.schemas import PersonId, SignerView
from app.petitions.schemas import PetitionLinks

Timestamp = Annotated[datetime, Field(description="when this message was made")]


class PetitionCampaign(BaseModel):
    """The campaign a petition belongs to."""

    id: UUID
    slug: str
    title: str


class ToldPetition(BaseModel):
    """A petition as it is when the message is sent; its title is that of its own locale."""

    id: UUID
    slug: str
    title: str
    state: Literal["open", "closed", "archived"]
    campaign: PetitionCampaign
    signature_goal: int
    opens_at: datetime | None
    closes_at: datetime | None
    links: PetitionLinks


class PetitionNews(BaseModel):
    """What happened to a petition, and when."""

    petition: ToldPetition
    at: datetime | None


class MilestoneNews(PetitionNews):
    """Which count was reached, and how many had signed when that was seen."""

    threshold_count: int
    signature_count: int


class CountedSignatures(BaseModel):
    """Up to 500 signatures of persons who consent to your organization."""

    signatures: list[SignerView]


class WithdrawnSignature(BaseModel):
    """A signature that you brought or may have been told of. It may have been signed anew since then, by another id."""

    signature_id: UUID
    person_id: PersonId
    petition_id: UUID
    petition: Annotated[str, Field(description="its slug")]


class ErasedPerson(BaseModel):
    """Somebody who is to be erased at yours too.

    What you have by this `person_id` that is later than `at` (`signed_at`, the consent's `decided_at`) they have said
    since then, and it stays.
    """

    person_id: PersonId
    at: Annotated[datetime, Field(description="when it was asked for")]
    signature_ids: Annotated[list[UUID], Field(description="those of their signatures that you brought")]


class TrialNews(BaseModel):
    """What you asked to be sent."""

    message: str


class PetitionPublished(BaseModel):
    """A petition has opened for signatures, for the first time or again."""

    type: Literal["petition.published"]
    timestamp: Timestamp
    data: PetitionNews


class PetitionClosed(BaseModel):
    """A petition takes no more signatures."""

    type: Literal["petition.closed"]
    timestamp: Timestamp
    data: PetitionNews


class PetitionMilestoneReached(BaseModel):
    """A petition has reached a milestone, or its goal."""

    type: Literal["petition.milestone_reached"]
    timestamp: Timestamp
    data: MilestoneNews


class SignatureCounted(BaseModel):
    """Signatures that count, of persons who consent to your organization. One may come up again."""

    type: Literal["signature.counted"]
    timestamp: Timestamp
    data: CountedSignatures


class SignatureWithdrawn(BaseModel):
    """Somebody has withdrawn a signature."""

    type: Literal["signature.withdrawn"]
    timestamp: Timestamp
    data: WithdrawnSignature


class PersonErased(BaseModel):
    """Somebody has been erased here. It may be told twice."""

    type: Literal["person.erased"]
    timestamp: Timestamp
    data: ErasedPerson


class WebhookTest(BaseModel):
    """A message that says nothing, sent because somebody asked for it."""

    type: Literal["webhook.test"]
    timestamp: Timestamp
    data: TrialNews
