"""What a key looks like: `mtd_<role>_<43 characters>`, the last part 256 random bits.

It is random enough that its plain SHA-256 digest cannot be turned back; a slow hash would only slow requests.
"""

import hashlib
import re
import secrets

from app.organizations.principals import ROLES

_KEY = re.compile(rf"mtd_({'|'.join(ROLES)})_[A-Za-z0-9_-]{{43}}")
_SHOWN = 8


def new_key(role: str) -> str:
    """A fresh key, to be shown once."""
    return f"mtd_{role}_{secrets.token_urlsafe(32)}"


def prefix_of(key: str) -> str:
    """As much of a key as tells it from others in a list: `mtd_owner_Ab3dEf7h…`."""
    return f"{key[: -43 + _SHOWN]}…"


def digest_of(key: str) -> bytes:
    """What is stored of a key and looked up: its SHA-256."""
    return hashlib.sha256(key.encode()).digest()


def looks_like_a_key(text: str) -> bool:
    """Whether asking the database about this text makes sense at all."""
    return _KEY.fullmatch(text) is not None
