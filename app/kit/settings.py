"""Settings: the one place that reads the environment. Every entry is described in `docs/operations.md`."""

from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.kit.crypto.sealing import KeyRing
from app.kit.mail.message import Sender, SmtpUrl
from app.kit.text.urls import base_url, is_here

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """What an operator can set. Names without an alias carry the prefix `MULTITUDE_`."""

    # What was refused is not shown: it may hold a password.
    model_config = SettingsConfigDict(
        env_prefix="MULTITUDE_", populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    public_url: str = Field("http://127.0.0.1:8000", validation_alias="PUBLIC_URL")
    # Newest first: it seals, all of them open. Empty only for commands that neither seal nor open.
    secret_keys: SecretStr = SecretStr("")
    digest_key: SecretStr | None = None

    cors_origins: Annotated[list[str], NoDecode] = []
    max_body_bytes: int = Field(MEBIBYTE, ge=1024)
    partner_max_body_bytes: int = Field(
        16 * MEBIBYTE, ge=1024, description="the largest body a partner may post, unpacked"
    )
    log_format: str = Field("auto", pattern="^(auto|json|console)$")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    database_pool_size: int = Field(5, ge=1)

    # A full queue of 2,048, with 4,096 connections open, took 39 MiB more than an idle process (`bench memory`).
    queue_limit: int = Field(2048, ge=1, description="signatures that may wait in one process; more get 503")
    stream_limit: int = Field(5000, ge=0, description="live streams one process feeds; more get 503")
    batch_limit: int = Field(1000, ge=1, description="signatures committed at once at the most")
    commit_patience_seconds: float = Field(10.0, gt=0, description="how long a failing commit is tried again")
    sweep_seconds: float = Field(1.0, gt=0, description="pause between two rounds of the worker")

    smtp_url: SecretStr | None = Field(None, validation_alias="SMTP_URL")
    mail_from: str = Field("Multitude <no-reply@localhost>", description="what stands in From")
    mail_connections: int = Field(8, ge=1, le=100, description="connections to the mail server one process opens")
    outbox_dir: Path | None = Field(None, description="where mails are kept when there is no mail server")
    mail_texts_dir: Path | None = Field(None, description="an operator's own mail texts, which win over ours")
    mails_per_hour: int = Field(10, ge=1, description="mails one person is sent at the most, links to sign in aside")
    sign_ins_per_hour: int = Field(30, ge=1, description="links to sign in one client address can ask for")
    sign_in_link: str = Field("", description="the front end's page to sign in on, with {token}; else one of ours")
    petition_link: str = Field(
        "", description="the front end's page of a petition, with {petition}; else none is named"
    )
    webhook_connections: int = Field(200, ge=1, le=2000, description="webhooks one worker delivers at the same time")
    webhook_timeout_seconds: float = Field(10.0, gt=0, le=60, description="how long an endpoint may take to answer")
    webhook_loopback: bool = Field(
        False, description="whether endpoints may be on this machine, without TLS, while PUBLIC_URL is this machine's"
    )
    worker_metrics_port: int | None = Field(
        None, ge=1, le=65535, description="where the worker shows its metrics, on this machine alone"
    )
    confirm_link: str = Field("", description="the front end's page to confirm on, with {token}; else one of ours")

    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        default=[], description="networks whose proxies are believed when they name the client's address"
    )
    rate_limit_url: SecretStr | None = Field(
        None, validation_alias="RATE_LIMIT_URL", description="the Valkey or Redis server that processes share limits in"
    )

    @field_validator("public_url")
    @classmethod
    def _is_a_base(cls, value: str) -> str:
        return base_url(value)

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("smtp_url")
    @classmethod
    def _is_a_route(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        SmtpUrl.parse(value.get_secret_value())
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_a_sender(cls, value: str) -> str:
        Sender.parse(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        networks = [ip_network(network) for network in value]
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("who trusts everybody knows nobody's address: name the networks of your proxies")
        return [str(network) for network in networks]

    @field_validator("rate_limit_url")
    @classmethod
    def _is_a_store(cls, value: SecretStr | None) -> SecretStr | None:
        if not value or not value.get_secret_value():
            return None
        if not _names_a_store(value.get_secret_value()):
            raise ValueError("must be redis://host, rediss://host, valkey://host or valkeys://host")
        return value

    @field_validator("confirm_link", "sign_in_link", "petition_link")
    @classmethod
    def _has_a_place_to_fill(cls, value: str, info: ValidationInfo) -> str:
        place = "{petition}" if info.field_name == "petition_link" else "{token}"
        if value and not (value.startswith(("https://", "http://")) and place in value):
            raise ValueError(f"must be an http or https address that contains {place}")
        return value

    @property
    def is_local(self) -> bool:
        """Whether links to this service lead whoever follows them to their own machine."""
        return is_here(urlsplit(self.public_url).hostname or "")

    @property
    def may_call_loopback(self) -> bool:
        """Whether webhooks may go to this machine: only where that was said, and nobody else is served."""
        return self.webhook_loopback and self.is_local

    @property
    def shown_outbox(self) -> Path | None:
        """The folder whose mails may be looked at from this machine; None where they are sent, or others served."""
        return self.outbox_dir if self.smtp_url is None and self.is_local else None

    def link(self, page: str, token: str) -> str:
        """The link that carries this token: to the front end's page of that name, or to our own."""
        given = getattr(self, f"{page}_link") or f"{self.public_url}/{page.replace('_', '-')}?token={{token}}"
        return str(given).replace("{token}", token)

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


def _names_a_store(url: str) -> bool:
    try:
        address = urlsplit(url)
        return (
            address.scheme in {"redis", "rediss", "valkey", "valkeys"} and bool(address.hostname) and address.port != 0
        )
    except ValueError:  # its words quote the address
        return False


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
