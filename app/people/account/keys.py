"""The bearer secrets of somebody who signs in: the key of the session, and the binding of the browser that asked.

Only their digests are kept (`kit/crypto/bearer_secrets.py`).
"""

from app.kit.crypto import bearer_secrets

PREFIX = "mtd_person_"
_KEY = bearer_secrets.pattern_of(PREFIX)


def new_key() -> str:
    """A fresh key of a session, to be shown once."""
    return bearer_secrets.new_secret(PREFIX)


def new_binding() -> str:
    """What a browser keeps to show that it is the one that asked for the link; 43 characters."""
    return bearer_secrets.new_secret()


def looks_like_a_key(text: str) -> bool:
    """Whether it makes sense to look this text up in the database."""
    return _KEY.fullmatch(text) is not None
