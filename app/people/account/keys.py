"""The keys of sessions; only their digests are kept (`kit/crypto/bearer_secrets.py`)."""

from app.kit.crypto import bearer_secrets

PREFIX = "mtd_person_"
_KEY = bearer_secrets.pattern_of(PREFIX)


def new_key() -> str:
    """A fresh key of a session, to be shown once."""
    return bearer_secrets.new_secret(PREFIX)


def looks_like_a_key(text: str) -> bool:
    """Whether it makes sense to look this text up in the database."""
    return _KEY.fullmatch(text) is not None
