"""Client addresses: where a request came from, with proxies believed only when the operator trusts them."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from app.kit.web.asgi import Scope

Address: TypeAlias = IPv4Address | IPv6Address

_FORWARDED_FOR = b"x-forwarded-for"
# Some proxies add the port they were called from.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
# The longest form: an IPv6 address with an IPv4 tail, in brackets, with a port and the name of an interface.
_LONGEST = 80
_CACHED = 8192


class TrustedProxies:
    """The networks whose proxies are believed when they say for whom they call; none by default."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ip_network(network) for network in networks)
        # The same proxies, and often the same people, come again and again.
        self.read = lru_cache(maxsize=_CACHED)(self._read)

    def _read(self, text: str) -> tuple[Address | None, bool]:
        """The address in this text, and whether it is a trusted proxy's."""
        address = parse_address(text)
        return address, address is not None and any(address in network for network in self._networks)


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
    if is_trusted:
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
