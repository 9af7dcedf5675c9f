"""Organizations and their keys, what was done with them, and what waits to be done."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Base
from app.organizations.principals import ROLES

Kind = Literal["movement", "partner"]
KINDS = get_args(Kind)
# `look`: names were shown. `destruction`: an erasure or an invalidation. `request`: it waits (`pending_acts`).
Category = Literal["act", "look", "destruction", "request"]
CATEGORIES = get_args(Category)
PendingState = Literal["waiting", "done", "cancelled", "failed"]
PENDING_STATES = get_args(PendingState)
NoticeKind = Literal["audit_alert", "pending_act"]
NOTICE_KINDS = get_args(NoticeKind)


class Organization(Base):
    """The movement itself, or a partner of it."""

    __tablename__ = "organizations"
    __table_args__ = (
        CheckConstraint(f"kind IN {KINDS}", name="kind"),
        # There is one movement.
        Index("uq_organizations__kind", "kind", unique=True, postgresql_where=text("kind = 'movement'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="partner")
    created_at: Mapped[datetime] = mapped_column(default=now)


class ApiKey(Base):
    """An API key: a credential of an organization in one role. Only its digest is kept; `prefix` tells keys apart.

    `made_by`: the key it was made with, the nil UUID when it was made on the server's command line, NULL when it is
    older than this column. `networks`: from where it may be used; NULL: from everywhere.
    """

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint(f"role IN {ROLES}", name="role"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    role: Mapped[str]
    label: Mapped[str | None]
    prefix: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    made_by: Mapped[UUID | None] = mapped_column(index=True)
    networks: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    requests_per_minute: Mapped[int | None]


class AuditEntry(Base):
    """One entry of the audit log: who did or saw what, in numbers and ids, and no personal data.

    Triggers refuse every change, and what does not follow the last entry. `number` has no gaps; `digest` is over the
    entry and `previous_digest` (`audit/chain.py`). `key_id` and `organization_id` are NULL for the server's
    command line.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        CheckConstraint(f"category IN {CATEGORIES}", name="category"),
        CheckConstraint("number > 0", name="number"),
        Index("ix_audit_entries__key_id", "key_id", "number"),
        Index("ix_audit_entries__verb", "verb", "number"),
        Index("ix_audit_entries__object_kind", "object_kind", "object_id", "number"),
    )

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(index=True)
    key_id: Mapped[UUID | None]
    organization_id: Mapped[UUID | None]
    role: Mapped[str]
    verb: Mapped[str]
    category: Mapped[str]
    object_kind: Mapped[str]
    object_id: Mapped[str | None]
    row_count: Mapped[int] = mapped_column(BigInteger)
    fields: Mapped[list[str]] = mapped_column(ARRAY(Text))
    reason: Mapped[str | None]
    pending_act_id: Mapped[UUID | None]
    previous_digest: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)


class PendingAct(Base):
    """An act that cannot be undone, and waits a day or for a second person's word.

    `signer`: whom an erasure is about, by their digest alone; it goes when the act is over. `organization_id`: of the
    key that asked. `roles`: whose word it needs.
    """

    __tablename__ = "pending_acts"
    __table_args__ = (
        CheckConstraint(f"state IN {PENDING_STATES}", name="state"),
        CheckConstraint("signer IS NULL OR (state = 'waiting' AND octet_length(signer) = 16)", name="signer"),
        Index("ix_pending_acts__due_at", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_pending_acts__signer", "signer", postgresql_where=text("signer IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    verb: Mapped[str]
    object_kind: Mapped[str]
    object_id: Mapped[UUID | None]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    signer: Mapped[bytes | None] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(default="waiting")
    organization_id: Mapped[UUID]
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    asked_by: Mapped[UUID]
    asked_at: Mapped[datetime] = mapped_column(default=now)
    due_at: Mapped[datetime]
    decided_by: Mapped[UUID | None]
    decided_at: Mapped[datetime | None]
    failure: Mapped[str | None]


class OwnerNotice(Base):
    """A mail to one of the operator's alert addresses. The address itself is a setting, and not kept here.

    `about` and `recipient` (the place of the address in the setting) make sure that nobody is told twice.
    """

    __tablename__ = "owner_notices"
    __table_args__ = (
        CheckConstraint(f"kind IN {NOTICE_KINDS}", name="kind"),
        Index("uq_owner_notices__about", "about", "recipient", unique=True),
        Index("ix_owner_notices__due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    kind: Mapped[str]
    about: Mapped[str]
    recipient: Mapped[int] = mapped_column(SmallInteger)
    content: Mapped[dict[str, str]] = mapped_column(JSONB)
    due_at: Mapped[datetime | None]
    mail_count: Mapped[int] = mapped_column(SmallInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
