"""Settings: the only code that reads the environment. Each room and each tool declares what it reads itself.

`ServiceSettings` is what every process needs; the classes that are built on it add a room's or a tool's own, and
`app/settings.py` composes them all. Every entry is described in `docs/operations.md`.
"""

from functools import lru_cache
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.kit.crypto.sealing import KeyRing
from app.kit.secret_files import SecretFiles, variable_of
from app.kit.text.urls import base_url, is_here

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


# Written with commas in the environment.
Parts: TypeAlias = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class ServiceSettings(BaseSettings):
    """What an operator can set for every process. Names without an alias carry the prefix `MULTITUDE_`."""

    # What was refused is not shown: it may hold a password.
    model_config = SettingsConfigDict(
        env_prefix="MULTITUDE_", populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    public_url: str = Field("http://127.0.0.1:8000", validation_alias="PUBLIC_URL")
    # Newest first: it seals, all of them open. Empty only for commands that neither seal nor open.
    secret_keys: SecretStr = SecretStr("")
    digest_key: SecretStr | None = None
    # Newest first, both: what seals receipts and links, else the digest key; what wraps digests whose key has leaked.
    token_keys: SecretStr = SecretStr("")
    digest_wrapping_keys: SecretStr = SecretStr("")

    cors_origins: Parts = []
    max_body_bytes: int = Field(MEBIBYTE, ge=1024)
    log_format: str = Field("auto", pattern="^(auto|json|console)$")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    database_pool_size: int = Field(5, ge=1)
    sweep_seconds: float = Field(1.0, gt=0, description="pause between two rounds of the worker")
    metrics_host: str = Field("127.0.0.1", description="the address at which metrics are shown")
    metrics_port: int = Field(9464, ge=0, le=65535, description="where the API shows its metrics; 0: nowhere")
    worker_metrics_port: int = Field(9465, ge=0, le=65535, description="where the worker shows its own; 0: nowhere")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings names it; no folder is read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the data folder's file; in each of both a secret, or the file that holds it."""
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, EnvSettingsSource)
        of_environment, of_file = SecretFiles(settings_cls, env_settings), SecretFiles(settings_cls, dotenv_settings)
        return init_settings, env_settings, of_environment, dotenv_settings, of_file

    @field_validator("public_url")
    @classmethod
    def _is_a_base(cls, value: str) -> str:
        return base_url(value)

    @property
    def is_local(self) -> bool:
        """Whether links to this service lead whoever follows them to their own machine."""
        return is_here(urlsplit(self.public_url).hostname or "")

    def as_environment(self) -> dict[str, str]:
        """What was set, as the environment that sets it again in another process."""
        return {
            variable_of(type(self), name, field): _spelt(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set and getattr(self, name) is not None
        }

    @property
    def key_ring(self) -> KeyRing:
        """The keys that seal personal data and digest e-mail addresses; ValueError when none is set."""
        digest_key = self.digest_key.get_secret_value() if self.digest_key else None
        lasting = self.token_keys.get_secret_value(), self.digest_wrapping_keys.get_secret_value()
        return _key_ring(self.secret_keys.get_secret_value(), digest_key, *lasting)


@lru_cache(maxsize=8)
def _key_ring(secret_keys: str, digest_key: str | None, token_keys: str, wrapping_keys: str) -> KeyRing:
    # By the keys, not by the settings: a copy of them with other keys must not keep the former ring.
    return KeyRing.parse(secret_keys, digest_key, token_keys, wrapping_keys)


def _spelt(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(value) if isinstance(value, list) else str(value)


def link_template(place: str) -> AfterValidator:
    """Marks a front end's page as a template with this place to fill; empty is allowed.

    A mark on the type, not a method: classes that are composed override each other's methods of one name.
    """

    def check(value: str) -> str:
        if value and not (value.startswith(("https://", "http://")) and place in value):
            raise ValueError(f"must be an http or https address that contains {place}")
        return value

    return AfterValidator(check)
