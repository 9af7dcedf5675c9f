"""What an operator can set about keys, and about whom to tell what staff and partners do."""

from datetime import timedelta

from pydantic import Field, field_validator

from app.kit.mail.message import Sender
from app.kit.mail.settings import MailSettings
from app.kit.settings import Parts


class OrganizationSettings(MailSettings):
    """For this room."""

    key_longest_days: int = Field(365, ge=1, le=3650, description="the longest life of a key, in days")
    key_requests_per_minute: int = Field(
        3000, ge=1, description="requests of one key a minute, unless the key has a limit of its own"
    )
    alert_addresses: Parts = Field(default=[], description="who is mailed alerts and acts that wait")
    alert_locale: str = Field("en", pattern="^[a-z]{2}$", description="the language of these mails")
    alert_names_per_hour: int = Field(5000, ge=1, description="names one key may be shown in an hour without an alert")
    alert_destructions_per_hour: int = Field(
        20, ge=1, description="erasures and invalidations of one key in an hour without an alert"
    )

    @field_validator("alert_addresses")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        for address in value:
            Sender.parse(address)
        return value

    @property
    def key_longest_life(self) -> timedelta:
        """How long a key lives at the most."""
        return timedelta(days=self.key_longest_days)
