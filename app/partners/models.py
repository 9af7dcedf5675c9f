"""Tables of partnerships, of webhooks that come in, and of endpoints, messages and attempts for those that go out."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Uuid

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Base

PartnershipState = Literal["invited", "active", "declined", "ended"]
PARTNERSHIP_STATES = get_args(PartnershipState)
Scheme = Literal["standard", "controlshift", "action_network"]
SCHEMES = get_args(Scheme)
EndpointState = Literal["active", "paused", "disabled"]
ENDPOINT_STATES = get_args(EndpointState)
MessageState = Literal["due", "delivered", "dead", "void"]
MESSAGE_STATES = get_args(MessageState)


class Partnership(Base):
    """A partner organization and a campaign, under written terms, which never change: new ones are a new partnership.

    Of one organization and campaign one is active at the most, and one more may be an invitation to follow it.
    `petition_ids`: those it is about, to feed and to receive from; NULL is all of the campaign, those to come too.
    `consents` is a list of `{"organization": slug, "answer": "given" | "asked" | "optional"}`. `default_country` stands
    in where a signature comes without one. `*_by` are keys of whoever did it.
    """

    __tablename__ = "partnerships"
    __table_args__ = (
        CheckConstraint(f"state IN {PARTNERSHIP_STATES}", name="state"),
        Index(
            "uq_partnerships__active",
            "organization_id",
            "campaign_id",
            unique=True,
            postgresql_where=text("state = 'active'"),
        ),
        Index(
            "uq_partnerships__invited",
            "organization_id",
            "campaign_id",
            unique=True,
            postgresql_where=text("state = 'invited'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    campaign_id: Mapped[UUID] = mapped_column(ForeignKey("campaigns.id"), index=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    state: Mapped[str] = mapped_column(default="invited")
    terms: Mapped[str]
    petition_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    consents: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    receives_signers: Mapped[bool]
    default_country: Mapped[str | None]
    invited_by: Mapped[UUID]
    answered_by: Mapped[UUID | None]
    ended_by: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    answered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class WebhookSecret(Base):
    """A secret by which an organization signs what it posts, sealed. Several may be live at once."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (CheckConstraint(f"scheme IN {SCHEMES}", name="scheme"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    scheme: Mapped[str]
    label: Mapped[str | None]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ReceivedWebhook(Base):
    """A webhook that came in, known by the digest of its id, and the answer it was given, sealed.

    Its own `id` is what the ids of its signatures are made from, so that doing it again after a crash meets them.
    `claimed_by` is the key of the lock of the process that works on it: while that lives, nobody else does.
    """

    __tablename__ = "received_webhooks"
    __table_args__ = (UniqueConstraint("organization_id", "webhook_digest"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    webhook_digest: Mapped[bytes] = mapped_column(LargeBinary)
    body_digest: Mapped[bytes] = mapped_column(LargeBinary)
    claimed_by: Mapped[int | None] = mapped_column("runner", BigInteger)
    received_at: Mapped[datetime] = mapped_column(default=now, index=True)
    answered_at: Mapped[datetime | None]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)


class WebhookEndpoint(Base):
    """Where an organization wants to be told. `sealed` holds its address, its secrets and whom to write to.

    The worker that delivers to it has leased it until `leased_until`. Messages whose order is kept wait until
    `ordered_due_at`. What waited when it was activated again is tried for as long as if it had been made then. One that
    was removed is `disabled` too, and only the sweep that deletes it still sees it.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (CheckConstraint(f"state IN {ENDPOINT_STATES}", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    label: Mapped[str | None]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    state: Mapped[str] = mapped_column(default="active")
    state_reason: Mapped[str | None]
    failure_count: Mapped[int] = mapped_column(default=0)
    failing_since: Mapped[datetime | None]
    ordered_due_at: Mapped[datetime | None]
    leased_until: Mapped[datetime | None]
    mail_due_at: Mapped[datetime | None] = mapped_column()
    mail_count: Mapped[int] = mapped_column(default=0)
    activated_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class WebhookMessage(Base):
    """Something one endpoint is told. `content` names it by ids; the body is written anew whenever it is sent.

    `due`: to be sent at `due_at`, until `retried_until`; then it is `dead`. `void`: there was nothing left to tell.
    `ordered`: whether it waits for those before it. Blocked messages must not be read in vain, so each kind has its own
    index.
    """

    __tablename__ = "webhook_messages"
    __table_args__ = (
        CheckConstraint(f"state IN {MESSAGE_STATES}", name="state"),
        Index("ix_webhook_messages__endpoint_id", "endpoint_id", "id"),
        Index(
            "ix_webhook_messages__ordered",
            "endpoint_id",
            "due_at",
            "id",
            postgresql_where=text("state = 'due' AND ordered"),
        ),
        Index(
            "ix_webhook_messages__unordered",
            "endpoint_id",
            "due_at",
            "id",
            postgresql_where=text("state = 'due' AND NOT ordered"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    type: Mapped[str]
    ordered: Mapped[bool]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(default="due")
    due_at: Mapped[datetime] = mapped_column(default=now)
    retried_until: Mapped[datetime]
    attempt_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    delivered_at: Mapped[datetime | None]


class DeliveryAttempt(Base):
    """One delivery attempt and its outcome. `answer`: the first bytes of what came back, sealed."""

    __tablename__ = "delivery_attempts"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_messages.id", ondelete="CASCADE"), index=True)
    attempted_at: Mapped[datetime]
    duration_ms: Mapped[int]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    answer: Mapped[bytes] = mapped_column(LargeBinary)


class SignerFeedEntry(Base):
    """A consent given with a signature to an organization, in the order in which its partner is told.

    Numbers are given by one sweep at a time to what has committed, so whoever has read up to a number has missed
    nothing below it. None is lower than the second at which it was given, in microseconds since 1970: also a database
    that was restored goes on above all that it has ever given.
    """

    __tablename__ = "signer_feed_entries"
    __table_args__ = (Index("ix_signer_feed_entries__organization_id", "organization_id", "number"),)

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    organization_id: Mapped[UUID]
    consent_id: Mapped[UUID] = mapped_column(ForeignKey("consents.id", ondelete="CASCADE"), unique=True)
