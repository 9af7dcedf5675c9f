"""Client addresses: where a request came from, with proxies believed only when the operator trusts them."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from app.kit.logs import ThrottledWarning
from app.kit.web.asgi import Scope

Address: TypeAlias = IPv4Address | IPv6Address

_FORWARDED_FOR = b"x-forwarded-for"
# Some proxies add the port they were called from.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
# The longest form: an IPv6 address with an IPv4 tail, in brackets, with a port and the name of an interface.
_LONGEST = 80
_CACHED = 8192
# A household or a rented server is given a /64 of IPv6 addresses (RFC 6177) and may choose the rest of its address.
CLIENT_BYTES = 8


class TrustedProxies:
    """The networks whose proxies are believed when they say for whom they call; none by default."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ip_network(network) for network in networks)
        self._untrusted = ThrottledWarning(
            "X-Forwarded-For from a peer that is not trusted: set MULTITUDE_TRUSTED_PROXIES"
        )
        # The same proxies, and often the same people, come again and again.
        self.read = lru_cache(maxsize=_CACHED)(self._read)

    def _read(self, text: str) -> tuple[Address | None, bool]:
        """The address in this text, and whether it is a trusted proxy's."""
        address = parse_address(text)
        return address, address is not None and any(address in network for network in self._networks)

    def warn_of_header(self, peer: Address | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Tell the operator that a proxy's header came from somebody who is not trusted, and was ignored.

        Most often the proxy's network is missing in the settings, and all its clients share one limit.
        """
        for name, _ in headers:
            if name == _FORWARDED_FOR:
                self._untrusted.add(_kind_of(peer))
                return


def _kind_of(peer: Address | None) -> str:
    """What can be said of an address without naming it."""
    if peer is None:
        return "no address"
    return "this machine" if peer.is_loopback else "private network" if peer.is_private else "public network"


class CountedClients:
    """Whose connections and streams are counted, and under which key; those of exempt networks are not."""

    def __init__(self, exempt: Iterable[str] = ()) -> None:
        self._exempt = tuple(ip_network(network) for network in exempt)

    def key_of_peer(self, peer: str) -> bytes | None:
        """The key of the address in this text."""
        return self.key_of(parse_address(peer))

    def key_of(self, address: Address | None) -> bytes | None:
        """The IPv4 address, or the first half of an IPv6 one; None when it is exempt, or there is none."""
        if address is None or any(address in network for network in self._exempt):
            return None
        return address.packed[:CLIENT_BYTES]


def parse_address(text: str) -> Address | None:
    """One address as a socket or a proxy writes it; None when it is none. An IPv4-mapped IPv6 address becomes IPv4."""
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((found[1] or found[2]) if found else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # Without the interface it was seen on: through the number.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def client_address(scope: Scope, trusted: TrustedProxies) -> Address | None:
    """The address of the client that sent this request; None when the peer has none (a unix socket).

    It is the peer's, unless the peer is a trusted proxy. Then `X-Forwarded-For` is read from its right end, where
    each proxy adds the one it was called by: the first address that is not trusted is the client's. Anybody could have
    written what stands to the left of that, or of an entry that cannot be read. `Forwarded` (RFC 7239) is ignored on
    purpose: a proxy that writes one of the two headers passes on whatever the client claimed in the other.
    """
    peer = scope.get("client")
    if not peer:
        return None
    address, is_trusted = trusted.read(peer[0])
    if not is_trusted:
        trusted.warn_of_header(address, scope["headers"])
    else:
        for entry in _forwarded(scope["headers"]):
            claimed, is_trusted = trusted.read(entry)
            address = claimed or address
            if not is_trusted:
                break
    return address


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """The entries of `X-Forwarded-For`, the last one first. Several such headers are one list (RFC 9110, 5.3)."""
    for value in reversed([value for name, value in headers if name == _FORWARDED_FOR]):
        for entry in reversed(value.split(b",")):
            text = entry.strip(b" \t").decode("latin-1")
            # What is longer is no address, and is not worth a place in the cache.
            yield text if len(text) <= _LONGEST else ""
