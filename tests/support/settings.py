"""Settings as `multitude up` would have them, with a key that is only for tests."""

from functools import cache

from app.kit.crypto.sealing import KeyRing
from app.settings import Settings

SECRET_KEYS = "a-secret-that-is-only-for-tests-0001"
RING = KeyRing.parse(SECRET_KEYS)
FINGERPRINT = RING.fingerprint()


@cache
def settings_for(url: str, **more: object) -> Settings:
    """Settings for this database; `webhook_loopback`, since the receivers of tests are on this machine. The same ones
    for the same words: reading them takes longer than emptying the database."""
    own = {"database_url": url, "secret_keys": SECRET_KEYS, "log_level": "ERROR", "webhook_loopback": True}
    return Settings.model_validate({**own, **more})
