"""Signatures and their tallies. Written by `intake.py` and `tallies.py` only, in SQL of their own."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, LargeBinary, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base

STATES = ("pending", "confirmed", "withdrawn", "invalidated")


class Signature(Base):
    """One person under one petition.

    No foreign key leads to the petition: checking it would lock the petition's row once per signature. The inserting
    statement reads the petition itself, and petitions are never deleted. The primary key is the only index.
    `id` names the attempt that won; the receipt of any other attempt opens nothing.
    """

    __tablename__ = "signatures"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint("octet_length(signer) = 16", name="signer"),
    )

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    signer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    id: Mapped[UUID]
    signed_at: Mapped[datetime]
    country: Mapped[str]
    state: Mapped[str]
    region: Mapped[str]
    source: Mapped[str]
    group_id: Mapped[UUID | None]
    event_id: Mapped[UUID | None]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class SignatureTally(Base):
    """How many confirmed signatures a petition has under one key of one dimension, in one lane's part.

    A tally is the sum of its lanes. One lane's part may be negative (a signature that came through another lane was
    withdrawn through this one); the sum never is.
    """

    __tablename__ = "signature_tallies"
    # Room on the page for the next version of a row that changes with every batch: such an update touches no index.
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    petition_id: Mapped[UUID] = mapped_column(primary_key=True)
    dimension: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    signature_count: Mapped[int] = mapped_column(BigInteger)
