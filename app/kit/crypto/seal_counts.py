"""How often each key has sealed, over all processes: a key with random nonces may not seal without end.

NIST SP 800-38D, 8.3: at most 2^32 invocations of GCM with one key and random 96-bit nonces. It is to be renewed at half
of that. Counting costs no signature a statement: each process counts in memory (`KeyRing.seals`) and adds that up once
a minute and at its end. A killed one loses its last minute, and a short one may lose its last thousand; the other half
is there for that.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from sqlalchemy import BigInteger, LargeBinary, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Base, Database
from app.kit.logs import failure_of, log
from app.kit.metrics import seals

LIMIT = 2**32
# To be renewed from here on; and that is overdue.
RENEW_AT, OVERDUE_AT = LIMIT // 2, LIMIT // 4 * 3
_EVERY = 60.0
_FEW = 1000
# Seconds; a process that ends does not wait longer for it.
_PATIENCE = 5.0


class KeySeals(Base):
    """How often a key has sealed. `key_id` is what stands before each value it has sealed."""

    __tablename__ = "key_seals"

    purpose: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    seal_count: Mapped[int] = mapped_column(BigInteger)


class Sealed(NamedTuple):
    """How often the key that seals now has done so, for one purpose (`row`, `token`)."""

    purpose: str
    seal_count: int


async def sealed_by_current(session: AsyncSession, ring: KeyRing) -> list[Sealed]:
    """The counts of the keys that seal now, as they are known to the database."""
    current = {"row": ring.current_id, "token": ring.token_id}
    rows = (await session.scalars(select(KeySeals))).all()
    known = {(row.purpose, row.key_id): row.seal_count for row in rows}
    return [Sealed(purpose, known.get((purpose, key_id), 0)) for purpose, key_id in current.items()]


async def save(ring: KeyRing, database: Database) -> None:
    """Add what this process has sealed since the last time; what fails is kept for the next."""
    taken = {key: count for key, count in sorted(ring.seals.items()) if count}
    if not taken:
        return
    ring.seals.subtract(taken)
    try:
        async with asyncio.timeout(_PATIENCE), database.transaction() as session:
            await _add(session, taken)
            counts = await sealed_by_current(session, ring)
    except (SQLAlchemyError, OSError) as error:
        ring.seals.update(taken)
        log.warning("seals could not be counted", **failure_of(error))
        return
    for (purpose, _), count in taken.items():
        seals.labels(purpose).inc(count)
    for one in counts:
        if one.seal_count >= RENEW_AT:
            log.warning("a key has sealed too often: renew it", purpose=one.purpose, seals=one.seal_count)


async def _add(session: AsyncSession, taken: dict[tuple[str, bytes], int]) -> None:
    rows = [{"purpose": purpose, "key_id": id_, "seal_count": count} for (purpose, id_), count in taken.items()]
    adding = insert(KeySeals).values(rows)
    summed = KeySeals.seal_count + adding.excluded.seal_count
    await session.execute(
        adding.on_conflict_do_update(index_elements=["purpose", "key_id"], set_={"seal_count": summed})
    )


@asynccontextmanager
async def counting(ring: KeyRing, database: Database) -> AsyncIterator[None]:
    """Count for as long as the block lasts, and at its end."""
    task = asyncio.create_task(_count(ring, database), name="count seals")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if ring.seals.total() >= _FEW:
            await save(ring, database)


async def _count(ring: KeyRing, database: Database) -> None:
    while True:
        await asyncio.sleep(_EVERY)
        await save(ring, database)
