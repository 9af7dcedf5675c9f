"""API keys of organizations: `mtd_<role>_` and a bearer secret of 43 characters."""

from app.kit.crypto import bearer_secrets
from app.organizations.principals import ROLES

_KEY = bearer_secrets.pattern_of(f"mtd_({'|'.join(ROLES)})_")
_SHOWN = 8


def new_key(role: str) -> str:
    """A fresh key, to be shown once."""
    return bearer_secrets.new_secret(f"mtd_{role}_")


def prefix_of(key: str) -> str:
    """As much of a key as tells it from others in a list: `mtd_owner_Ab3dEf7h…`."""
    return f"{key[: _SHOWN - bearer_secrets.LENGTH]}…"


def looks_like_a_key(text: str) -> bool:
    """Whether it makes sense to look this text up in the database."""
    return _KEY.fullmatch(text) is not None
