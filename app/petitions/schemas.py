"""Schemas of petitions: what staff send, and what everybody is shown."""

from collections.abc import Callable, Hashable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from app.kit.database.paging import Paging
from app.kit.text.countries import Country
from app.kit.text.fields import Body, BoundedErrors, Day, Flag, Line, Locale, Moment, Paragraph, Slug, Text
from app.kit.text.folding import folded
from app.kit.text.locales import canonical
from app.petitions.confirmation import PetitionWarning
from app.petitions.models import NO_ADDRESS_LIMIT, Challenge, Confirmation, Moderation, State

Item = TypeVar("Item")

HIGHEST_GOAL = 1_000_000_000
_MOST_LOCALES = 200
_MOST_MILESTONES = 100
_MOST_ALLOWED = 1000


def _distinct(key: Callable[[Any], Hashable], what: str) -> Callable[[Sequence[Item]], Sequence[Item]]:
    def check(items: Sequence[Item]) -> Sequence[Item]:
        if len(set(map(key, items))) < len(items):
            raise ValueError(f"must not name {what} twice")
        return items

    return check


Ask = Annotated[Paragraph, StringConstraints(min_length=1), Field(examples=["Repeal the Act."])]
Goal = Annotated[int, Field(ge=1, le=HIGHEST_GOAL)]
TextLocale = Annotated[Locale, AfterValidator(canonical), Field(examples=["en-GB"], description="BCP 47")]
AddressLimit = Annotated[
    Annotated[int, Field(ge=1, le=1_000_000)] | Literal["none"],
    Field(
        description="signatures an hour from one client address; more have to be confirmed by mail, or are held;"
        " null: as many as the service allows; none: without a limit"
    ),
    AfterValidator(lambda limit: NO_ADDRESS_LIMIT if limit == "none" else limit),
]
PersonalDataUntil = Annotated[
    Day,
    Field(
        description="from this day on (UTC), once closed, personal data without other consent is destroyed; after today"
    ),
]
AllowedCountries = Annotated[
    list[Country],
    Field(min_length=1, max_length=300, description="who may sign; null: everybody"),
    AfterValidator(_distinct(str, "a country")),
]
# The forms in which signers send them; what is folded to nothing would match nothing.
Region = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=64, pattern=r"^[\p{L}\p{M}\p{N} .,'\u{2019}()&/-]*$"),
    Field(examples=["Kampala"]),
]
Source = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._-]*$"), Field(examples=["newsletter"])]


def _has_letters(text: str) -> str:
    if not folded(text):
        raise ValueError("must have a letter or a digit")
    return text


AllowedRegions = Annotated[
    list[Annotated[Region, AfterValidator(_has_letters)]],
    Field(
        min_length=1,
        max_length=_MOST_ALLOWED,
        description="regions that are tallied beside those of ISO 3166-2; any other is sealed and tallied as `other`",
    ),
    AfterValidator(_distinct(folded, "a region")),
]
AllowedSources = Annotated[
    list[Annotated[Source, AfterValidator(_has_letters)]],
    Field(
        min_length=1,
        max_length=_MOST_ALLOWED,
        description="sources that are tallied beside the known ones; any other is sealed and tallied as `other`",
    ),
    AfterValidator(_distinct(folded, "a source")),
]


class WordsBody(Body):
    """A petition's words in one locale."""

    title: Line
    ask: Ask
    background: Text | None = None


class MilestoneBody(Body):
    """A count worth telling about."""

    signature_count: Goal
    label: Line | None = None


Milestones = Annotated[
    list[MilestoneBody],
    Field(max_length=_MOST_MILESTONES),
    AfterValidator(_distinct(lambda milestone: milestone.signature_count, "a count")),
    BoundedErrors,
]


class PetitionBody(WordsBody):
    """A new petition; its own words are those of `locale`, `texts` holds those of further ones."""

    slug: Slug
    target: Annotated[Line | None, Field(description="the decision-maker it is addressed to")] = None
    signature_goal: Goal = 100
    next_goal_automatic: Flag = True
    confirmation: Annotated[
        Confirmation, Field(description="`none` counts what nobody has proven, and needs `accept_unproven`")
    ] = "email"
    accept_unproven: Annotated[
        Flag, Field(description="said with `confirmation: none` alone: that anyone can sign as anyone is accepted")
    ] = False
    challenge: Challenge = "none"
    address_limit: AddressLimit | None = None
    locale: TextLocale = "en"
    texts: Annotated[dict[TextLocale, WordsBody], Field(max_length=_MOST_LOCALES, default_factory=dict)]
    allowed_countries: AllowedCountries | None = None
    allowed_regions: AllowedRegions | None = None
    allowed_sources: AllowedSources | None = None
    opens_at: Annotated[Moment | None, Field(description="opens by itself at this time")] = None
    closes_at: Annotated[Moment | None, Field(description="closes by itself at this time")] = None
    personal_data_until: PersonalDataUntil | None = None
    milestones: Annotated[Milestones, Field(default_factory=list)]


class PetitionChanges(Body):
    """What to change: a field left out stays as it is. The words are those of the petition's own locale."""

    title: Annotated[Line, Field(default_factory=str)]
    ask: Annotated[Ask, Field(default_factory=str)]
    background: Text | None = None
    target: Line | None = None
    signature_goal: Annotated[Goal, Field(default_factory=int)]
    next_goal_automatic: Annotated[Flag, Field(default_factory=bool)]
    confirmation: Annotated[
        Confirmation, Field(default_factory=str, description="to `none` only while it is a draft, to `email` always")
    ]
    accept_unproven: Annotated[Flag, Field(default_factory=bool, description="said with `confirmation: none` alone")]
    allowed_countries: AllowedCountries | None = None
    allowed_regions: AllowedRegions | None = None
    allowed_sources: AllowedSources | None = None
    opens_at: Annotated[Moment | None, Field(description="only while it is a draft")] = None
    closes_at: Annotated[Moment | None, Field(description="only until it is closed")] = None
    challenge: Annotated[Challenge, Field(default_factory=str)]
    address_limit: AddressLimit | None = None
    personal_data_until: PersonalDataUntil | None = None


class ReopenBody(Body):
    """When a reopened petition closes again."""

    closes_at: Moment | None = None


class ModerationBody(Body):
    """A decision on whether the public may see and sign a petition."""

    moderation: Moderation
    reason: Annotated[Paragraph | None, Field(description="for staff; the public is not shown it")] = None


class MilestoneView(BaseModel):
    """A milestone, and when and at which count it was found to be reached."""

    signature_count: int
    label: str | None
    reached_at: datetime | None
    reached_signature_count: int | None


class PetitionLinks(BaseModel):
    """Where to go from a petition."""

    campaign: str
    signatures: str
    count: str
    tally: str
    stream: str


class PetitionItem(BaseModel):
    """A petition in a list. `locale` is that of the words shown here."""

    id: UUID
    campaign_id: UUID
    slug: str
    state: State
    moderation: Moderation
    locale: str
    title: str
    ask: str
    target: str | None
    signature_goal: int
    confirmation: Confirmation
    challenge: Annotated[Challenge, Field(description="work a front end must do before it sends a signature")]
    allowed_countries: list[str] | None
    opens_at: datetime | None
    closes_at: datetime | None
    created_at: datetime
    updated_at: datetime
    links: PetitionLinks


class PetitionView(PetitionItem):
    """A petition. Its count is not here: it moves too fast for a page that caches keep."""

    own_locale: Annotated[str, Field(description="the locale that stands in for all it has no words in")]
    locales: list[str]
    background: str | None
    next_goal_automatic: bool
    accept_unproven: Annotated[
        bool, Field(description="it takes, or took, signatures that nobody has proven: its breakdowns are coarse")
    ]
    allowed_regions: list[str] | None
    allowed_sources: list[str] | None
    milestones: list[MilestoneView]
    personal_data_until: date | None
    moderation_reason: Annotated[str | None, Field(description="shown to staff only")]
    address_limit: Annotated[int | Literal["none"] | None, Field(description="shown to staff only")]
    personal_data_destroyed_at: Annotated[datetime | None, Field(description="shown to staff only")]
    warnings: Annotated[list[PetitionWarning], Field(description="shown to staff only")]


class PetitionPaging(Paging):
    """What a client asks of a list of petitions."""

    state: State | None = None
