"""The key ring guard: the database remembers its digest key's fingerprint, and no process with another key may write.

With another digest key every signer would look new: all could sign again, and counts would double unnoticed.
"""

from sqlalchemy import CheckConstraint, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database.session import Base
from app.kit.problems import OperatorError


class DigestKey(Base):
    """One row: the fingerprint of the digest key."""

    __tablename__ = "digest_keys"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    fingerprint: Mapped[str]


class KeyRingMismatchError(OperatorError):
    """The database was filled with another digest key than MULTITUDE_SECRET_KEYS or MULTITUDE_DIGEST_KEY gives, or with
    others of MULTITUDE_DIGEST_WRAPPING_KEYS."""


class DigestRotationUnfinishedError(OperatorError):
    """The digests are being wrapped under a new key: run `multitude keys rotate-digest` until it is through."""


async def ensure_key_ring(session: AsyncSession, fingerprint: str) -> None:
    """Store the first fingerprint; KeyRingMismatchError for any other, DigestRotationUnfinishedError between two."""
    await session.execute(insert(DigestKey).values(id=1, fingerprint=fingerprint).on_conflict_do_nothing())
    stored = await session.scalar(select(DigestKey.fingerprint)) or ""
    if ">" in stored:
        raise DigestRotationUnfinishedError(" ".join((DigestRotationUnfinishedError.__doc__ or "").split()))
    if stored != fingerprint:
        raise KeyRingMismatchError(" ".join((KeyRingMismatchError.__doc__ or "").split()))
