"""E-mail domains: which ones give out disposable addresses, and the digest by which a domain's signatures are found.

The list is that of the `disposable-email-domains` package, as old as the installed version. Such signatures are
flagged, never refused.
"""

from functools import lru_cache

from disposable_email_domains import blocklist

from app.kit.crypto.digests import DigestKeys
from app.kit.crypto.sealing import KeyRing

DIGEST_BYTES = 8

_DISPOSABLE = frozenset(blocklist)


def domain_of(canonical_email: str) -> str:
    """The domain of an address in its canonical form (`people.emails.canonical`): lower case, ASCII."""
    return canonical_email.rpartition("@")[2]


@lru_cache(maxsize=4096)
def is_disposable(domain: str) -> bool:
    """Whether the domain, or one above it, is on the list."""
    while domain:
        if domain in _DISPOSABLE:
            return True
        domain = domain.partition(".")[2]
    return False


def digest(ring: KeyRing, domain: str) -> bytes:
    """8 bytes. It is not the digest of any signer: those are made of addresses, which contain an "@"."""
    return _digest(ring.digests, domain)


# Most people share a few domains.
@lru_cache(maxsize=4096)
def _digest(keys: DigestKeys, domain: str) -> bytes:
    return keys.short_digest(f"domain {domain}", DIGEST_BYTES)
