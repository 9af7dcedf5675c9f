"""Petitions, their texts in further locales, and their milestones."""

from datetime import date, datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Text, false
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Base

State = Literal["draft", "open", "closed", "archived"]
Moderation = Literal["pending", "approved", "rejected", "removed"]
Confirmation = Literal["none", "email"]
Challenge = Literal["none", "altcha"]
STATES, MODERATIONS = get_args(State), get_args(Moderation)
CONFIRMATIONS, CHALLENGES = get_args(Confirmation), get_args(Challenge)


# What `address_limit` holds where staff have said that there is none: the version before reads a limit nobody reaches.
NO_ADDRESS_LIMIT = 2**31 - 1


class Petition(Base):
    """One ask. `state` is what was last written down; `queries.STATE_NOW` also takes the clock into account."""

    __tablename__ = "petitions"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint(f"moderation IN {MODERATIONS}", name="moderation"),
        CheckConstraint(f"confirmation IN {CONFIRMATIONS}", name="confirmation"),
        CheckConstraint(f"challenge IN {CHALLENGES}", name="challenge"),
        CheckConstraint("address_limit > 0", name="address_limit"),
        CheckConstraint("signature_goal > 0", name="signature_goal"),
        CheckConstraint("closes_at > opens_at", name="closes_after_opening"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    campaign_id: Mapped[UUID] = mapped_column(ForeignKey("campaigns.id"), index=True)
    slug: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default="draft")
    moderation: Mapped[str] = mapped_column(default="approved")
    moderation_reason: Mapped[str | None]
    locale: Mapped[str] = mapped_column(default="en")
    title: Mapped[str]
    ask: Mapped[str]
    background: Mapped[str | None]
    target: Mapped[str | None]
    signature_goal: Mapped[int] = mapped_column(BigInteger)
    next_goal_automatic: Mapped[bool] = mapped_column(default=True)
    confirmation: Mapped[str] = mapped_column(default="email")
    # Whether it takes, or once took, signatures that nobody has proven (`confirmation.py`).
    accept_unproven: Mapped[bool] = mapped_column(default=False, server_default=false())
    allowed_countries: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # What signers may say in clear beside what everybody knows (`clear_text.py`).
    allowed_regions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    allowed_sources: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    opens_at: Mapped[datetime | None]
    closes_at: Mapped[datetime | None]
    # Against abuse: proof of work asked of every signer, and how many signatures an hour from one client address count
    # unproven. NULL: as many as the service says.
    challenge: Mapped[str] = mapped_column(default="none", server_default="none")
    address_limit: Mapped[int | None]
    release_held_before: Mapped[datetime | None]
    # From this day on the personal data of signers without other consent is destroyed; and the moment when it was.
    personal_data_until: Mapped[date | None]
    personal_data_destroyed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class PetitionText(Base):
    """A petition's text in a further locale."""

    __tablename__ = "petition_texts"

    petition_id: Mapped[UUID] = mapped_column(ForeignKey("petitions.id"), primary_key=True)
    locale: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    ask: Mapped[str]
    background: Mapped[str | None]


class PetitionMilestone(Base):
    """A count worth telling about, and when it was reached. A goal that was reached becomes a milestone too."""

    __tablename__ = "petition_milestones"
    __table_args__ = (
        CheckConstraint("threshold_count > 0", name="threshold_count"),
        CheckConstraint("(reached_at IS NULL) = (reached_signature_count IS NULL)", name="reached"),
    )

    petition_id: Mapped[UUID] = mapped_column(ForeignKey("petitions.id"), primary_key=True)
    threshold_count: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    label: Mapped[str | None]
    reached_at: Mapped[datetime | None]
    reached_signature_count: Mapped[int | None] = mapped_column(BigInteger)
