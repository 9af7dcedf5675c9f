"""Organizations and their keys."""

from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Base
from app.organizations.principals import ROLES

Kind = Literal["movement", "partner"]
KINDS = get_args(Kind)


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
    """An API key: a credential of an organization in one role. Only its digest is kept; `prefix` tells keys apart."""

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
