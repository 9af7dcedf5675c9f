"""Bearer secrets (API keys, keys of sessions, bindings of browsers): 256 random bits, kept as a SHA-256 digest alone.

A secret is random enough that its plain digest cannot be turned back; a slow hash would only slow every request.
"""

import hashlib
import re
import secrets

_BYTES = 32
# Base64url characters of a secret.
LENGTH = 43


def new_secret(prefix: str = "") -> str:
    """A fresh secret behind its prefix, to be shown once."""
    return prefix + secrets.token_urlsafe(_BYTES)


def digest_of(secret: str) -> bytes:
    """What is stored of a secret and looked up: the SHA-256 of all of it, its prefix included."""
    return hashlib.sha256(secret.encode()).digest()


def pattern_of(prefix: str) -> re.Pattern[str]:
    """What a whole secret looks like behind a prefix (a regular expression): other texts need not be looked up."""
    return re.compile(rf"{prefix}[A-Za-z0-9_-]{{{LENGTH}}}")
