"""Where a request came from: the client's address behind trusted proxies only, and its digest with a daily salt.

An address is never stored. Its digest is keyed with a random salt that is new every day (UTC) and deleted two days
later: from then on nobody can tell which address a digest stood for, whoever runs the service included.
"""

import asyncio
import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from sqlalchemy import LargeBinary, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import now
from app.kit.crypto.key_rotation import SealedColumn
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Base, Database
from app.kit.logs import failure_of, log
from app.kit.web.middleware import Scope

Address: TypeAlias = IPv4Address | IPv6Address

DIGEST_BYTES = 8
_SALT_BYTES = 32
_SALT_DAYS = 2
# A household or a rented server is handed this much of an IPv6 address (RFC 6177), and the rest is its to choose.
_OWNED_BYTES = 8
# Seconds. A signature does not wait longer for the day's salt, and a database that has none is not asked at once again.
_PATIENCE = 1.0
_PAUSE = 5.0

_FORWARDED_FOR = b"x-forwarded-for"
# Some proxies add the port they were called from.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
# An IPv6 address with an IPv4 tail, in brackets and with a port, and the name of an interface.
_LONGEST = 80
_REMEMBERED = 8192


class TrustedProxies:
    """The networks whose proxies are believed about whom they speak for; none by default."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ip_network(network) for network in networks)
        # The same proxies, and often the same people, come again and again.
        self.place = lru_cache(maxsize=_REMEMBERED)(self._place)

    def _place(self, text: str) -> tuple[Address | None, bool]:
        address = parsed(text)
        return address, address is not None and any(address in network for network in self._networks)


def parsed(text: str) -> Address | None:
    """One address as a socket or a proxy writes it; None when it is none. IPv4 in IPv6's clothes becomes IPv4."""
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((found[1] or found[2]) if found else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # The same without the interface it was seen on.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def client_address(scope: Scope, trusted: TrustedProxies) -> Address | None:
    """The address of whoever sent this request; None when the peer has none (a unix socket).

    It is the peer's, unless the peer is a trusted proxy. Then `X-Forwarded-For` is read from its right end, where
    each proxy adds the one it was called by: the first address that is not trusted is the client's. What stands left of
    it, or of an entry that cannot be read, could have been written by anybody. `Forwarded` (RFC 7239) is ignored on
    purpose: a proxy that writes one of the two passes on whatever the client claimed in the other.
    """
    peer = scope.get("client")
    if not peer:
        return None
    address, believed = trusted.place(peer[0])
    if believed:
        for entry in _forwarded(scope["headers"]):
            claimed, believed = trusted.place(entry)
            address = claimed or address
            if not believed:
                break
    return address


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """The entries of `X-Forwarded-For`, the last one first. Several such headers are one list (RFC 9110, 5.3)."""
    for value in reversed([value for name, value in headers if name == _FORWARDED_FOR]):
        for entry in reversed(value.split(b",")):
            text = entry.strip(b" \t").decode("latin-1")
            # Too long to be one, and not worth remembering.
            yield text if len(text) <= _LONGEST else ""


class AddressSalt(Base):
    """The random salt of one day's address digests, sealed."""

    __tablename__ = "address_salts"

    salted_on: Mapped[date] = mapped_column(primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


def _identity(salted_on: date) -> bytes:
    return b"address_salts.sealed" + salted_on.isoformat().encode()


# For whoever brings the salts under a newer key.
ADDRESS_SALTS = SealedColumn("address_salts", {"salted_on": "date"}, "sealed", _identity)


class ClientIpDigester:
    """Digests addresses with the salt of the present day. One per process, so that the day's salt is read once."""

    def __init__(self, ring: KeyRing, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._ring = ring
        self._database = database
        self._clock = clock
        self._day: date | None = None
        self._key = b""
        self._reading: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def digest(self, address: Address | None) -> bytes | None:
        """8 bytes, the same all day (UTC) for the same IPv4 address or IPv6 /64.

        None for no address, and when the day's salt cannot be had: nobody is kept from signing by that.
        """
        if address is None:
            return None
        today = self._clock().date()
        if self._day != today and not await self._turn_to(today):
            return None
        owned = address.packed[:_OWNED_BYTES]
        return hmac.digest(self._key, owned, "sha256")[:DIGEST_BYTES]

    async def _turn_to(self, today: date) -> bool:
        """Have the salt of a new day; whoever comes meanwhile shares the one look-up."""
        if self._reading is None:
            if time.monotonic() < self._not_before:
                return False
            self._reading = asyncio.create_task(self._read(today))
        await asyncio.shield(self._reading)
        return self._day == today

    async def _read(self, today: date) -> None:
        try:
            async with asyncio.timeout(_PATIENCE), self._database.transaction() as session:
                salt = await self._salt(session, today)
            self._key = hmac.digest(self._ring.digest_key, b"multitude/address" + salt, "sha256")
            self._day = today
        except (SQLAlchemyError, OSError, SealBrokenError) as error:
            self._not_before = time.monotonic() + _PAUSE
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
