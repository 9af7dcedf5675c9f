"""Schemas of campaigns: what staff send, and what everybody is shown."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from app.campaigns.models import Campaign, CampaignTarget, CampaignUpdate, State
from app.kit.database.paging import Paging
from app.kit.text.fields import Body, BoundedErrors, Day, Line, Paragraph, Slug, Text, View

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Statement = Annotated[Paragraph, Field(min_length=1, examples=["No country punishes love"])]
# In a PATCH: the field may be left out, but must not be null.
LEFT_OUT = Field(default_factory=lambda: None)


class MetricBody(Body):
    """The goal in numbers."""

    name: Annotated[Line, Field(examples=["countries where it is a crime"])]
    start: Annotated[Number, Field(examples=[76])]
    target: Annotated[Number, Field(examples=[0])]
    current: Annotated[Number | None, Field(description="as long as it is left out: the start")] = None


class GoalBody(Body):
    """What the campaign is for."""

    statement: Statement
    metric: MetricBody | None = None


def _one_form(value: object) -> object:
    return {"statement": value} if isinstance(value, str) else value


Goal = Annotated[
    GoalBody,
    BeforeValidator(_one_form, json_schema_input_type=Statement | GoalBody),
    Field(description="a sentence, or a statement with a metric"),
]


class TargetBody(Body):
    """A decision-maker: a public office, not a private person."""

    name: Line
    role: Line | None = None
    organization: Line | None = None


Targets = Annotated[list[TargetBody], Field(max_length=100), BoundedErrors]


class CampaignBody(Body):
    """A new campaign."""

    slug: Annotated[Slug, Field(examples=["end-the-ban"])]
    title: Annotated[Line, Field(examples=["End the ban"])]
    goal: Goal
    story: Text | None = None
    state: Literal["draft", "active"] = "active"
    targets: Annotated[Targets, Field(default_factory=list)]


class CampaignChanges(Body):
    """What can be changed of a campaign: a field that is left out stays; `goal` is replaced as a whole."""

    title: Annotated[Line, LEFT_OUT]
    story: Text | None = None
    goal: Annotated[Goal, LEFT_OUT]
    state: Annotated[State, LEFT_OUT]
    outcome: Annotated[Text | None, Field(description="how it ended; needed once it is won or lost")] = None
    outcome_on: Day | None = None


class UpdateBody(Body):
    """News of a campaign."""

    title: Line
    text: Text
    published_on: Annotated[Day | None, Field(description="today (UTC) when left out")] = None


class MetricView(View):
    """The goal in numbers, and where it stands."""

    name: str
    start: float
    target: float
    current: float


class GoalView(View):
    """What the campaign is for."""

    statement: str
    metric: MetricView | None


class TargetView(View):
    """A decision-maker."""

    name: str
    role: str | None
    organization: str | None


class UpdateView(View):
    """News of a campaign."""

    id: UUID
    published_on: date
    title: str
    text: str


class CampaignView(View):
    """A campaign as it stands in a list."""

    id: UUID
    slug: str
    state: State
    title: str
    story: str | None
    goal: GoalView
    outcome: str | None
    outcome_on: date | None
    created_at: datetime
    updated_at: datetime


class WholeCampaignView(CampaignView):
    """A campaign with those it aims at and its newest updates."""

    targets: list[TargetView]
    updates: Annotated[list[UpdateView], Field(description="the newest 20, newest first")]


class CampaignPaging(Paging):
    """What a client asks of the list of campaigns."""

    state: State | None = None


def goal_of(campaign: Campaign) -> GoalView:
    """A campaign's goal, always as an object."""
    metric = None
    if campaign.metric_name is not None:
        metric = MetricView.model_validate(
            {part: getattr(campaign, f"metric_{part}") for part in MetricView.model_fields}
        )
    return GoalView(statement=campaign.goal_statement, metric=metric)


def _fields_of(campaign: Campaign) -> dict[str, Any]:
    own = {name: getattr(campaign, name) for name in CampaignView.model_fields if name != "goal"}
    return own | {"goal": goal_of(campaign)}


def campaign_view(campaign: Campaign) -> CampaignView:
    """A campaign as shown in a list."""
    return CampaignView(**_fields_of(campaign))


def whole_campaign_view(
    campaign: Campaign, targets: list[CampaignTarget], updates: list[CampaignUpdate]
) -> WholeCampaignView:
    """A campaign with its targets and the given updates."""
    return WholeCampaignView(
        **_fields_of(campaign),
        targets=[TargetView.model_validate(target) for target in targets],
        updates=[UpdateView.model_validate(update) for update in updates],
    )
