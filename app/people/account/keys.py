"""What somebody who signs in is given: a key for the session, and before that a binding of the browser that asked.

Both are 256 random bits. Only digests are kept.
"""

import hashlib
import re
import secrets

PREFIX = "mtd_person_"
_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


def new_key() -> str:
    """A fresh key, to be shown once."""
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def new_binding() -> str:
    """What a browser keeps to show that it is the one that asked; 43 characters."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """What is stored of either: its SHA-256."""
    return hashlib.sha256(secret.encode()).digest()


def looks_like_a_key(text: str) -> bool:
    """Whether asking the database about this text makes sense at all."""
    return _KEY.fullmatch(text) is not None
