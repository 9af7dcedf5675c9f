"""What an operator can set about limits, and about whom to believe a client's address."""

from ipaddress import ip_network
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from app.kit.settings import Parts, ServiceSettings


class AbuseSettings(ServiceSettings):
    """For rate limits and client addresses."""

    trusted_proxies: Parts = Field(
        default=[], description="networks whose proxies are believed when they name the client's address"
    )
    uncounted_networks: Parts = Field(
        default=["127.0.0.0/8", "::1/128"],
        description="networks of which one address may have any number of connections, requests at once and streams, "
        "as trusted proxies may",
    )
    rate_limit_url: SecretStr | None = Field(
        None, validation_alias="RATE_LIMIT_URL", description="the Valkey or Redis server that processes share limits in"
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        networks = [ip_network(network) for network in value]
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("who trusts everybody knows nobody's address: name the networks of your proxies")
        return [str(network) for network in networks]

    @field_validator("uncounted_networks")
    @classmethod
    def _are_written_as_networks(cls, value: list[str]) -> list[str]:
        return [str(ip_network(network)) for network in value]

    @field_validator("rate_limit_url")
    @classmethod
    def _is_a_store(cls, value: SecretStr | None) -> SecretStr | None:
        if not value or not value.get_secret_value():
            return None
        if not _names_a_store(value.get_secret_value()):
            raise ValueError("must be redis://host, rediss://host, valkey://host or valkeys://host")
        return value


def _names_a_store(url: str) -> bool:
    try:
        address = urlsplit(url)
        return (
            address.scheme in {"redis", "rediss", "valkey", "valkeys"} and bool(address.hostname) and address.port != 0
        )
    except ValueError:  # its words quote the address
        return False
