"""What an operator can set about people who sign in."""

from typing import Annotated

from pydantic import Field

from app.kit.mail.settings import MailSettings
from app.kit.settings import link_template


class PeopleSettings(MailSettings):
    """For this room."""

    sign_ins_per_hour: int = Field(30, ge=1, description="links to sign in one client address can ask for")
    sign_in_link: Annotated[str, link_template("{token}")] = Field(
        "", description="the front end's page to sign in on, with {token}; else one of ours"
    )
