"""What an operator can set about partners and their webhooks."""

from pydantic import Field

from app.kit.mail.settings import MailSettings
from app.kit.settings import MEBIBYTE
from app.petitions.settings import PetitionSettings


class PartnerSettings(MailSettings, PetitionSettings):
    """For this room."""

    partner_max_body_bytes: int = Field(
        16 * MEBIBYTE, ge=1024, description="the largest body a partner may post, unpacked"
    )
    webhook_connections: int = Field(200, ge=1, le=2000, description="webhooks one worker delivers at the same time")
    webhook_timeout_seconds: float = Field(10.0, gt=0, le=60, description="how long an endpoint may take to answer")
    webhook_loopback: bool = Field(
        False, description="whether endpoints may be on this machine, without TLS, while PUBLIC_URL is this machine's"
    )

    @property
    def may_call_loopback(self) -> bool:
        """Whether webhooks may go to this machine: only where that was said, and nobody else is served."""
        return self.webhook_loopback and self.is_local
