"""Campaigns, the decision-makers they aim at, and their dated updates."""

from datetime import date, datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Base

State = Literal["draft", "active", "paused", "won", "lost", "archived"]
STATES = get_args(State)


class Campaign(Base):
    """The umbrella over petitions, groups and events: a goal, those who can grant it, and how it ended."""

    __tablename__ = "campaigns"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint(
            "num_nulls(metric_name, metric_start, metric_target, metric_current) IN (0, 4)",
            name="metric_whole",
        ),
        CheckConstraint("state NOT IN ('won', 'lost') OR outcome IS NOT NULL", name="outcome_told"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    slug: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default="active")
    title: Mapped[str]
    story: Mapped[str | None]
    goal_statement: Mapped[str]
    metric_name: Mapped[str | None]
    metric_start: Mapped[float | None] = mapped_column(Double)
    metric_target: Mapped[float | None] = mapped_column(Double)
    metric_current: Mapped[float | None] = mapped_column(Double)
    outcome: Mapped[str | None]
    outcome_on: Mapped[date | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class CampaignTarget(Base):
    """A decision-maker the campaign aims at: a public office, not a private person."""

    __tablename__ = "campaign_targets"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    campaign_id: Mapped[UUID] = mapped_column(ForeignKey("campaigns.id"), index=True)
    name: Mapped[str]
    role: Mapped[str | None]
    organization: Mapped[str | None]


class CampaignUpdate(Base):
    """News of the campaign, dated."""

    __tablename__ = "campaign_updates"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    campaign_id: Mapped[UUID] = mapped_column(ForeignKey("campaigns.id"), index=True)
    published_on: Mapped[date]
    title: Mapped[str]
    text: Mapped[str]
