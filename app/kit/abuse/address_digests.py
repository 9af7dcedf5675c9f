"""Digests of client addresses, keyed with a daily salt: the addresses themselves are never stored.

The salt is random, new every day (UTC), and deleted two days later: from then on nobody can tell which address a digest
stood for, not even whoever runs the service.
"""

import asyncio
import hmac
import os
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import LargeBinary, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.abuse.client_addresses import CLIENT_BYTES, Address
from app.kit.clock import now
from app.kit.crypto.key_rotation import SealedColumn
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Base, Database
from app.kit.logs import failure_of, log

DIGEST_BYTES = 8
_SALT_BYTES = 32
_SALT_DAYS = 2
# The network of a client: an IPv4 /24, or the /48 that a site can be given (RFC 6177), which has 65,536 /64s to choose
# from. In bytes, by the packed length of the address.
_NETWORK_BYTES = {4: 3, 16: 6}
# Seconds. A signature does not wait longer for the day's salt; after a failure the database is left alone for a while.
_READ_TIMEOUT = 1.0
_RETRY_PAUSE = 5.0


class AddressSalt(Base):
    """The random salt of one day's address digests, sealed."""

    __tablename__ = "address_salts"

    salted_on: Mapped[date] = mapped_column(primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


def _identity(salted_on: date) -> bytes:
    return b"address_salts.sealed" + salted_on.isoformat().encode()


# The key rotation brings the salts under a newer key.
ADDRESS_SALTS = SealedColumn("address_salts", {"salted_on": "date"}, "sealed", _identity)


class AddressDigests(NamedTuple):
    """What stands for a client's address, 8 bytes each.

    `client`: an IPv4 address, or the /64 of an IPv6 one. `network`: the /24, or the /48, that it is in; it is for
    limits and is stored nowhere.
    """

    client: bytes
    network: bytes


class ClientIpDigester:
    """Digests addresses with the salt of the present day. One per process, so that the day's salt is read once."""

    def __init__(self, ring: KeyRing, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._ring = ring
        self._database = database
        self._clock = clock
        self._day: date | None = None
        self._key = b""
        self._reading: asyncio.Task[None] | None = None
        self._retry_at = 0.0

    async def digests(self, address: Address | None) -> AddressDigests | None:
        """The digests of an address, the same all day (UTC).

        None for no address, and when the day's salt cannot be read: that keeps nobody from signing.
        """
        if address is None:
            return None
        today = self._clock().date()
        if self._day != today and not await self._load_salt(today):
            return None
        packed = address.packed
        # Of four lengths: so none of them can be equal to one of another kind.
        return AddressDigests(self._digest(packed[:CLIENT_BYTES]), self._digest(packed[: _NETWORK_BYTES[len(packed)]]))

    def _digest(self, prefix: bytes) -> bytes:
        return hmac.digest(self._key, prefix, "sha256")[:DIGEST_BYTES]

    async def _load_salt(self, today: date) -> bool:
        """Read the salt of a new day; callers who arrive meanwhile share the one read. Whether it was found."""
        if self._reading is None:
            if time.monotonic() < self._retry_at:
                return False
            self._reading = asyncio.create_task(self._read(today))
        await asyncio.shield(self._reading)
        return self._day == today

    async def _read(self, today: date) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT), self._database.transaction() as session:
                salt = await self._salt(session, today)
            self._key = hmac.digest(self._ring.digest_key, b"multitude/address" + salt, "sha256")
            self._day = today
        except (SQLAlchemyError, OSError, SealBrokenError) as error:
            self._retry_at = time.monotonic() + _RETRY_PAUSE
            log.error("no salt for addresses", **failure_of(error))
        finally:
            self._reading = None

    async def _salt(self, session: AsyncSession, today: date) -> bytes:
        """The day's salt, made by whichever process comes first."""
        identity = _identity(today)
        new = self._ring.seal(os.urandom(_SALT_BYTES), identity)
        await session.execute(insert(AddressSalt).values(salted_on=today, sealed=new).on_conflict_do_nothing())
        sealed = await session.scalar(select(AddressSalt.sealed).where(AddressSalt.salted_on == today))
        if sealed is None:
            raise SealBrokenError
        return self._ring.open(sealed, identity)


async def forget_salts(session: AsyncSession) -> Sequence[date]:
    """Delete the salts that are older than two days; their days."""
    oldest = now().date() - timedelta(days=_SALT_DAYS)
    forgotten = await session.scalars(
        delete(AddressSalt).where(AddressSalt.salted_on < oldest).returning(AddressSalt.salted_on)
    )
    return forgotten.all()
