"""Tables: people, their consents, the texts they consented to, their sign-ins and sessions, and mails to them.

What a person did when is kept to the second, in times and in ids.
"""

from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now, this_second
from app.kit.database.ids import uuid7, uuid7_of_second
from app.kit.database.session import Base

Purpose = Literal["news", "phone", "location"]
PURPOSES = get_args(Purpose)
MailKind = Literal["sign_in", "welcome"]
MAIL_KINDS = get_args(MailKind)


class Person(Base):
    """Somebody of whom more is kept than a signature. `sealed` holds all their details (`sealing.py`).

    `looked_at`: when the retention last checked whether there still is a reason to keep the row.
    """

    __tablename__ = "people"
    __table_args__ = (CheckConstraint("octet_length(signer) = 16", name="signer"),)

    signer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=this_second)
    updated_at: Mapped[datetime] = mapped_column(default=this_second, onupdate=this_second)
    looked_at: Mapped[datetime] = mapped_column(default=this_second, index=True)


class ConsentText(Base):
    """One version of what an organization asks people to agree to, for a purpose, in a locale. It never changes.

    `version` is the locale and a running number: `en-3`.
    """

    __tablename__ = "consent_texts"
    __table_args__ = (
        CheckConstraint(f"purpose IN {PURPOSES}", name="purpose"),
        UniqueConstraint("organization_id", "purpose", "version"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    purpose: Mapped[str]
    locale: Mapped[str]
    version: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Consent(Base):
    """One entry of the consent ledger: a person gave or withdrew a consent, when and where.

    `proven`: made by somebody who reads the person's mails; an unproven entry can come from anybody who knows the
    address. A trigger refuses every change of an entry. `petition_id` belongs to a room above: it is no foreign key.
    """

    __tablename__ = "consents"
    __table_args__ = (
        CheckConstraint(f"purpose IN {PURPOSES}", name="purpose"),
        CheckConstraint("octet_length(signer) = 16", name="signer"),
        Index("ix_consents__signer", "signer", "organization_id", "purpose", "decided_at"),
        Index("ix_consents__organization_id", "organization_id", "purpose", "signer", "decided_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7_of_second)
    signer: Mapped[bytes] = mapped_column(LargeBinary)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    purpose: Mapped[str]
    given: Mapped[bool]
    proven: Mapped[bool]
    text_id: Mapped[UUID | None] = mapped_column(ForeignKey("consent_texts.id"))
    decided_at: Mapped[datetime]
    petition_id: Mapped[UUID | None]
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    page: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=this_second)
    # The attempt to sign that brought it; none on one's own page, and before this was noted.
    attempt_id: Mapped[UUID | None]


class Contact(Base):
    """What an organization is shown of a person: what came with the consent to it, and nothing else (`consents/`).

    `attempt_id`: the attempt to sign that brought the consent; `proven`, `decided_at`: of that consent.
    """

    __tablename__ = "contacts"
    __table_args__ = (CheckConstraint("octet_length(signer) = 16", name="signer"),)

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    signer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    attempt_id: Mapped[UUID | None]
    proven: Mapped[bool]
    decided_at: Mapped[datetime]


class SignIn(Base):
    """A link to sign in by was asked for, until `expires_at`; and, once it was mailed, that link itself.

    `mailed_at`: when the mail server took its link, or may have; NULL as long as it did not, and for good where the
    link of another row stood for this one (`account/sign_ins.py`). `used_at`: when that link was used up.
    `known_device`: true if it was asked for by a device on which this person had signed in before, else NULL.
    """

    __tablename__ = "sign_ins"
    __table_args__ = (
        Index("ix_sign_ins__mailed_at", "signer", "mailed_at", postgresql_where=text("mailed_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7_of_second)
    signer: Mapped[bytes] = mapped_column(LargeBinary, index=True)
    binding_digest: Mapped[bytes] = mapped_column(LargeBinary)
    asked_at: Mapped[datetime] = mapped_column(default=this_second)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]
    known_device: Mapped[bool | None]


class PersonSession(Base):
    """A person's session on one device. Only the digest of its key is kept.

    `sealed`: the address and locale it was asked for with, for the page of somebody of whom there is no more. So
    signing in makes no row of `people`, and what it leaves ends with the session. NULL in rows of the version before.
    """

    __tablename__ = "person_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7_of_second)
    signer: Mapped[bytes] = mapped_column(LargeBinary, index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(default=this_second)
    last_used_at: Mapped[datetime] = mapped_column(default=this_second)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)


# The mail source that sends them, under whose name their failures are kept.
MAIL_SOURCE = "people"


class OutgoingMail(Base):
    """A mail that waits to be sent; the row is deleted when it has been. What it is about is sealed.

    One with a link to sign in has the id of its sign-in.
    """

    __tablename__ = "mails"
    __table_args__ = (
        CheckConstraint(f"kind IN {MAIL_KINDS}", name="kind"),
        Index("ix_mails__kind_due_at", "kind", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7_of_second)
    kind: Mapped[str]
    signer: Mapped[bytes] = mapped_column(LargeBinary, index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    due_at: Mapped[datetime | None] = mapped_column(default=now)
    mail_count: Mapped[int] = mapped_column(SmallInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=this_second)
