"""Signatures, their tallies and invalidations. The engine (`engine/`) writes signatures and tallies in plain SQL."""

from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Base

State = Literal["pending", "confirmed", "withdrawn", "invalidated"]
DueMail = Literal["confirm_signature", "already_signed", "confirm_consents", "confirm_withdrawal"]
InvalidationState = Literal["draft", "applying", "applied", "undoing", "undone"]
STATES, MAILS, INVALIDATION_STATES = map(get_args, (State, DueMail, InvalidationState))


class AttemptColumns:
    """What is kept of one attempt to sign, in the tables of both classes below.

    While a mail is to be sent, `due_mail` says which, `mail_due_at` when, and `mail_since` since when. While
    `consents_due` is true, the consents that came with it are to be entered in the ledger. The indexes on these columns
    hold only such rows. The state that an invalidated attempt would have otherwise is in `state_before`; that is what
    changes when its signer confirms or withdraws meanwhile.
    A NULL takes no space, so most rows are as short as without these columns.
    """

    id: Mapped[UUID]
    signed_at: Mapped[datetime]
    country: Mapped[str]
    state: Mapped[str]
    region: Mapped[str]
    source: Mapped[str]
    group_id: Mapped[UUID | None]
    event_id: Mapped[UUID | None]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    # Where it came from, as keyed digests: enough to find an attack, too little to find a person.
    address_digest: Mapped[bytes | None] = mapped_column(LargeBinary)
    domain_digest: Mapped[bytes | None] = mapped_column(LargeBinary)
    disposable: Mapped[bool | None]
    partner_id: Mapped[UUID | None]
    # Brought by an import: staff vouch for it, as a partner does for what it brings.
    imported: Mapped[bool | None]
    # Its client address was over a limit: pending until staff release or invalidate it (true), or until its signer
    # confirms it by mail (false; staff can release it as well).
    on_hold: Mapped[bool | None] = mapped_column("held")
    mail_due_at: Mapped[datetime | None]
    mail_since: Mapped[datetime | None]
    due_mail: Mapped[str | None]
    mail_count: Mapped[int | None] = mapped_column(SmallInteger)
    consents_due: Mapped[bool | None]
    # Which of its consents were accepted with its proof: bit n stands for the n-th.
    accepted_consents: Mapped[int | None]
    # And when, until they are entered in the ledger.
    accepted_at: Mapped[datetime | None]
    # Confirmed by the link of this very attempt: so the owner of the mailbox has said all that is in this row.
    proven: Mapped[bool | None]
    invalidation_id: Mapped[UUID | None]
    state_before: Mapped[str | None]
    # The attempt that was withdrawn, until the organizations that knew of it were told (`withdrawal_messages.py`).
    withdrawn_id: Mapped[UUID | None]


def _of_attempts(table: str) -> tuple[CheckConstraint | Index, ...]:
    """The constraints and indexes that both tables have."""
    return (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint("octet_length(signer) = 16", name="signer"),
        CheckConstraint("(state = 'invalidated') = (state_before IS NOT NULL)", name="state_before"),
        CheckConstraint(f"due_mail IN {MAILS}", name="due_mail"),
        Index(f"ix_{table}__mail_due_at", "mail_due_at", postgresql_where=text("mail_due_at IS NOT NULL")),
        Index(f"ix_{table}__consents_due", "id", postgresql_where=text("consents_due AND state = 'confirmed'")),
        Index(f"ix_{table}__withdrawn_id", "withdrawn_id", postgresql_where=text("withdrawn_id IS NOT NULL")),
        # For trends, which read the last minutes: a few pages, however many there are.
        Index(f"ix_{table}__signed_at", "signed_at", postgresql_using="brin", postgresql_with={"pages_per_range": 64}),
    )


class Signature(AttemptColumns, Base):
    """One person under one petition, by the attempt that stands (`docs/decisions/0022-an-attempt-is-not-a-person.md`).

    There is no foreign key to the petition: checking it would lock the petition's row once per signature. The
    inserting statement reads the petition itself, and petitions are never deleted. `id` is the attempt that this row
    holds; the receipt of any other attempt is about another row.
    """

    __tablename__ = "signatures"
    __table_args__ = _of_attempts("signatures")

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    signer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    # Of one that is withdrawn: whether the person has proven that they want it so. Then only a proven attempt counts.
    taken_back: Mapped[bool | None]
    # Partners whose attempts were replaced by others, and those attempts, in the same order: written by the version
    # before, and told still.
    superseded_partner_ids: Mapped[list[UUID] | None] = mapped_column("brought_by", ARRAY(Uuid))
    superseded_attempt_ids: Mapped[list[UUID] | None] = mapped_column("brought_ids", ARRAY(Uuid))


class SignatureAttempt(AttemptColumns, Base):
    """Another attempt in the name of somebody who has a row in `signatures` under this petition. It does not count."""

    __tablename__ = "signature_attempts"
    __table_args__ = _of_attempts("signature_attempts")

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    signer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)


class Invalidation(Base):
    """A rule by which signatures were found not to be genuine, and how far it has been carried out.

    The rule is sealed: it may name a domain that is a person's own. It is carried out chunk by chunk of the key's
    range, each in a transaction of its own; `slice` of `slice_count` are done.
    """

    __tablename__ = "invalidations"
    __table_args__ = (CheckConstraint(f"state IN {INVALIDATION_STATES}", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    petition_id: Mapped[UUID] = mapped_column(ForeignKey("petitions.id"), index=True)
    state: Mapped[str] = mapped_column(default="draft")
    reason: Mapped[str]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    # Signatures given later are not touched: what staff saw in the dry run is what is invalidated.
    signed_before: Mapped[datetime] = mapped_column(default=now)
    slice: Mapped[int] = mapped_column(default=0)
    slice_count: Mapped[int] = mapped_column(default=0)
    invalidated_count: Mapped[int] = mapped_column(BigInteger, default=0)
    restored_count: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class PublishedTally(Base):
    """What the public is shown of an unproven petition's tallies, and the snapshot it was made of.

    One set of rows a petition, written once an hour (`reading/published.py`). A key that is not shown has a row as long
    as that matters for the next hour.
    """

    __tablename__ = "published_tallies"

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    dimension: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime]
    taken_at: Mapped[datetime]
    # The exact tally at `taken_at`; and what is told of it, 0 when nothing is, since `changed_at`.
    signature_count: Mapped[int] = mapped_column(BigInteger)
    published_count: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime | None]


class MinuteTally(Base):
    """A petition's exact tally by one dimension, as all staff see it for a minute; written by who asks first."""

    __tablename__ = "minute_tallies"

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    dimension: Mapped[str] = mapped_column(primary_key=True)
    counts: Mapped[dict[str, int]] = mapped_column(JSONB)
    taken_at: Mapped[datetime]


class SignatureTally(Base):
    """A sharded counter: how many confirmed signatures a petition has under one key of one dimension, in one lane.

    The tally is the sum of its lanes. One lane's number may be negative (a signature that came through another lane was
    withdrawn through this one); the sum never is.
    """

    __tablename__ = "signature_tallies"
    # Space on the page for the next version of a row that changes with every batch: such an update touches no index.
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    dimension: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    signature_count: Mapped[int] = mapped_column(BigInteger)
