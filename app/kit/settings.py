"""Settings: the one place that reads the environment. Every entry is described in `docs/operations.md`."""

from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.kit.sealing import KeyRing

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """What an operator can set. Names without an alias carry the prefix `MULTITUDE_`."""

    model_config = SettingsConfigDict(env_prefix="MULTITUDE_", populate_by_name=True, extra="ignore")

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    public_url: str = Field("http://127.0.0.1:8000", validation_alias="PUBLIC_URL")
    # Newest first: it seals, all of them open. Empty only for commands that neither seal nor open.
    secret_keys: SecretStr = SecretStr("")
    digest_key: SecretStr | None = None

    cors_origins: Annotated[list[str], NoDecode] = []
    max_body_bytes: int = Field(MEBIBYTE, ge=1024)
    log_format: str = Field("auto", pattern="^(auto|json|console)$")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    database_pool_size: int = Field(5, ge=1)

    # A full queue of 2,048, with 4,096 connections open, took 39 MiB more than an idle process (`bench memory`).
    queue_limit: int = Field(2048, ge=1, description="signatures that may wait in one process; more get 503")
    stream_limit: int = Field(5000, ge=0, description="live streams one process feeds; more get 503")
    batch_limit: int = Field(1000, ge=1, description="signatures committed at once at the most")
    commit_patience_seconds: float = Field(10.0, gt=0, description="how long a failing commit is tried again")
    sweep_seconds: float = Field(1.0, gt=0, description="pause between two rounds of the worker")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    def as_environment(self) -> dict[str, str]:
        """What was set, as the environment that sets it again in another process."""
        return {
            str(field.validation_alias or f"MULTITUDE_{name.upper()}"): _spelt(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set and getattr(self, name) is not None
        }

    @cached_property
    def key_ring(self) -> KeyRing:
        """The keys that seal personal data and digest e-mail addresses; ValueError when none is set."""
        digest_key = self.digest_key.get_secret_value() if self.digest_key else None
        return KeyRing.parse(self.secret_keys.get_secret_value(), digest_key)


def _spelt(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(value) if isinstance(value, list) else str(value)


# Where `multitude up` keeps its database and keys when no other folder is named.
DEFAULT_DATA_DIR = Path(".multitude")
ENV_FILE = "service.env"


def load(data_dir: Path) -> Settings:
    """Settings from the environment, and what it does not say from the data folder of `multitude up`."""
    return Settings(_env_file=data_dir / ENV_FILE)
