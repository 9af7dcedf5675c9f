"""URLs: the canonical form of the service's own address, and which hosts are this machine."""

import re
from ipaddress import IPv6Address, ip_address

# In the path, what RFC 3986 allows there. Nothing else is needed, and anything else would break a link in some mail.
_BASE = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[(?P<ipv6>[0-9a-f:.]+)])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[a-z0-9._~!$&'()*+,;=:@%-]*)*)",
    re.ASCII | re.IGNORECASE,
)
_PORTS = range(1, 65536)
# A server that listens on such an address is reached at this one. Our IPv6 sockets take no IPv4.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to it


def base_url(text: str) -> str:
    """A base URL in canonical form, without a slash at its end; ValueError."""
    found = _BASE.fullmatch(text)
    if not found or int(found["port"] or 1) not in _PORTS or not _is_ipv6(found["ipv6"]):
        raise ValueError("must be http(s)://host[:port][/path], in ASCII, without a user, a query or a fragment")
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = f":{found['port']}" if found["port"] else ""
    return f"{scheme}://{host}{port}{found['path'].rstrip('/')}"


def _is_ipv6(text: str | None) -> bool:
    try:
        return text is None or bool(IPv6Address(text).packed)
    except ValueError:
        return False


def is_here(host: str) -> bool:
    """Whether a host is the machine itself (loopback)."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens on this host and port."""
    host = _EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
