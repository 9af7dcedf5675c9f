"""What an operator can set about mail."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from app.kit.mail.message import Sender, SmtpUrl
from app.kit.settings import ServiceSettings


class MailSettings(ServiceSettings):
    """For whoever writes or sends mail."""

    smtp_url: SecretStr | None = Field(None, validation_alias="SMTP_URL")
    mail_from: str = Field("Multitude <no-reply@localhost>", description="what stands in From")
    mail_connections: int = Field(8, ge=1, le=100, description="connections to the mail server one process opens")
    outbox_dir: Path | None = Field(None, description="where mails are kept when there is no mail server")
    mail_texts_dir: Path | None = Field(None, description="an operator's own mail texts, which win over ours")
    mails_per_hour: int = Field(10, ge=1, description="mails one person is sent at the most, links to sign in aside")

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

    @property
    def shown_outbox(self) -> Path | None:
        """The folder whose mails may be looked at from this machine; None where they are sent, or others served."""
        return self.outbox_dir if self.smtp_url is None and self.is_local else None

    @property
    def can_mail(self) -> bool:
        """Whether mails are sent, or at least kept for whoever develops."""
        return self.smtp_url is not None or self.outbox_dir is not None

    def link(self, page: str, token: str) -> str:
        """The link that carries this token: to the front end's page of that name (`<page>_link`), or to our own."""
        given = getattr(self, f"{page}_link", "") or f"{self.public_url}/{page.replace('_', '-')}?token={{token}}"
        return str(given).replace("{token}", token)
