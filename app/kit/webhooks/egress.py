"""Which addresses may be called: so that nobody makes this service call what only its own network can reach.

Read once, by these rules and no library's, so that what was checked and what is called cannot differ. A host is
resolved when a connection is to be opened, refused if any of its addresses is not everybody's (IANA's IPv4 and IPv6
special-purpose address registries), and the connection goes to the very address that was looked at.
"""

import asyncio
import re
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple, Protocol

import idna

from app.kit.problems import Invalid

Address = IPv4Address | IPv6Address

LONGEST = 2000
_PORTS = {"https": 443, "http": 80}
_HIGHEST_PORT = 65535
# Everything else in a URL is either a trick, or can be written so.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}]|[^\s/?#@:\[\]\\%]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$&-;=@-Z_a-z~%]*)?(?P<query>\?[!$&-;=?-Z_a-z~%]*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
# What a browser, or a resolver, would take for a number and so for an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
# And one that is public by its number alone: from inside Azure it is the host's own services (keys, DNS, health).
# Other clouds' (169.254.169.254, 100.100.100.200, 192.0.0.192, fd00:ec2::254) lie in what is refused anyway.
_REFUSED_IPV4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
# Of IPv6 only this is given to anybody: mapped and compatible IPv4, both prefixes of NAT64, unique local, link-local,
# site-local, multicast and segment routing lie outside of it.
_GIVEN_IPV6 = ip_network("2000::/3")
# Protocol assignments with Teredo and ORCHID, documentation, 6to4: the last two of the four hold an IPv4 address.
_REFUSED_IPV6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
# Look-ups at the same time, and with those that wait for one of them to end. A host is asked for by one at a time.
_RESOLVERS = 64
_MOST_LOOK_UPS = 512
# Seconds after which nobody waits any more for a look-up, and for how long such a host is not asked for again.
_HANGING = 5.0
_AVOIDED = 30.0


class TargetInvalid(Invalid):
    """This address cannot be called: it must be https://host[:port][/path][?query], without user and fragment."""

    slug = "target-invalid"


class TargetRefused(Invalid):
    """This address leads where the service does not call: not into the public internet."""

    slug = "target-refused"


class TargetUnresolvable(Invalid):
    """The host of this address cannot be resolved."""

    slug = "target-unresolvable"


class Target(NamedTuple):
    """An address taken apart: `host` in lower-case ASCII, IPv6 without brackets; `path` with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class Resolver(Protocol):
    """Gives a host's addresses, as text; OSError when it has none."""

    async def __call__(self, host: str, port: int) -> Sequence[str]: ...


class SystemResolver:
    """The system's resolver, in threads of its own: who asks for the same host shares one, so none is held by many.

    A host whose look-up hung has no address for a while, so that its name server cannot hold a thread for ever.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")
        self._asked: dict[str, asyncio.Future[list[str]]] = {}
        # Moments (monotonic): when a thread began with a host, and until when one is not asked for.
        self._begun: dict[str, float] = {}
        self._avoided: dict[str, float] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """All addresses of the host, in the order in which the system would try them."""
        if self._hangs(host):
            raise TimeoutError
        asked = self._asked.get(host) or self._ask(host, port)
        # Whoever asks may go: the others still wait.
        await asyncio.wait([asked])
        if asked.cancelled():
            raise TimeoutError
        return asked.result()

    def _hangs(self, host: str) -> bool:
        moment = time.monotonic()
        return self._avoided.get(host, moment) > moment or moment - self._begun.get(host, moment) > _HANGING

    def _ask(self, host: str, port: int) -> "asyncio.Future[list[str]]":
        if len(self._asked) >= _MOST_LOOK_UPS:
            raise TimeoutError
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host, port)
        self._asked[host] = asked
        asked.add_done_callback(lambda done: self._answered(host, done))
        return asked

    def _look_up(self, host: str, port: int) -> list[str]:
        # What waits for a thread of ours does not hang.
        self._begun[host] = time.monotonic()
        return _resolved(host, port)

    def _answered(self, host: str, done: "asyncio.Future[list[str]]") -> None:
        del self._asked[host]
        moment = time.monotonic()
        if moment - self._begun.pop(host, moment) > _HANGING:
            self._avoided = {each: until for each, until in self._avoided.items() if until > moment}
            self._avoided[host] = moment + _AVOIDED
        if not done.cancelled():
            done.exception()  # whoever asked may have gone

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolved(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class EgressPolicy:
    """Reads addresses, and says where each may be called at this moment."""

    def __init__(self, resolver: Resolver, *, loopback: bool = False) -> None:
        """With `loopback` this machine may be called, and without TLS: for development."""
        self._resolver = resolver
        self._loopback = loopback

    def read(self, url: str) -> Target:
        """Take an address apart; TargetInvalid."""
        target = _read(url)
        if target is None or (target.scheme == "http" and not self._loopback):
            raise TargetInvalid
        return target

    async def addresses(self, target: Target) -> Sequence[Address]:
        """Where to connect, in this order; TargetRefused when one of them must not be called, TargetUnresolvable."""
        literal = _literal(target.host)
        found = [literal] if literal else [_literal(text) for text in await self._resolve(target)]
        if not found:
            raise TargetUnresolvable
        addresses = [address for address in found if address is not None and self._may_call(target, address)]
        if len(addresses) < len(found):
            raise TargetRefused
        return addresses

    async def _resolve(self, target: Target) -> Sequence[str]:
        try:
            return await self._resolver(target.host, target.port)
        except (OSError, UnicodeError):
            raise TargetUnresolvable from None

    def _may_call(self, target: Target, address: Address) -> bool:
        if self._loopback and address.is_loopback:
            return True
        return target.scheme == "https" and is_public(address)


def is_public(address: Address) -> bool:
    """Whether an address is given to somebody in the public internet, and holds no other address."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_IPV4)
    # With a zone it means something else on every machine.
    is_given = address in _GIVEN_IPV6 and not address.scope_id
    return is_given and not any(address in network for network in _REFUSED_IPV6)


def _literal(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


@lru_cache(1024)
def _read(url: str) -> Target | None:
    found = _URL.fullmatch(url) if len(url) <= LONGEST else None
    host = _host(found["host"]) if found else None
    if found is None or host is None:
        return None
    scheme = found["scheme"].lower()
    port = int(found["port"] or _PORTS[scheme])
    if not 0 < port <= _HIGHEST_PORT:
        return None
    return Target(scheme, host, port, (found["path"] or "/") + (found["query"] or ""))


def _host(text: str) -> str | None:
    """A host as it is asked for: a name in ASCII, or an address in its one spelling; None for anything else."""
    if text.startswith("["):
        literal = _literal(text[1:-1])
        return str(literal) if isinstance(literal, IPv6Address) else None
    name = text.lower() if text.isascii() else _in_ascii(text)
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)) or not _is_international(name, labels):
        return None
    if _NUMBER.fullmatch(labels[-1]):
        # Octal, hexadecimal and short forms are no IPv4 address here, and no name of anybody's either.
        return name if isinstance(_literal(name), IPv4Address) else None
    return name


def _is_international(name: str, labels: Sequence[str]) -> bool:
    """Whether what is spelt as an international name is one, in all its labels (RFC 5891); true of others as well."""
    if not any(label.startswith("xn--") for label in labels):
        return True
    try:
        return bool(idna.decode(name))
    except (idna.IDNAError, UnicodeError):
        return False


def _in_ascii(text: str) -> str:
    """An international name as it is asked for; "" when it is none."""
    try:
        return idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return ""
