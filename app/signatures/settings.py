"""What an operator can set about signing."""

from typing import Annotated

from pydantic import Field

from app.kit.mail.settings import MailSettings
from app.kit.settings import link_template
from app.kit.web.settings import WebSettings
from app.petitions.settings import PetitionSettings


class SigningSettings(MailSettings, PetitionSettings, WebSettings):
    """For this room."""

    # A full queue of 2,048, with 4,096 connections open, took 39 MiB more than an idle process (`bench memory`).
    queue_limit: int = Field(2048, ge=1, description="signatures that may wait in one process; more get 503")
    stream_limit: int = Field(5000, ge=0, description="live streams one process feeds; more get 503")
    streams_per_client: int = Field(128, ge=1, description="live streams one client address may have in a process")
    batch_limit: int = Field(1000, ge=1, description="signatures committed at once at the most")
    commit_patience_seconds: float = Field(10.0, gt=0, description="how long a failing commit is tried again")
    address_limit: int = Field(
        50, ge=1, le=1_000_000, description="signatures an hour from one client address, where a petition says nothing"
    )
    address_mails: int = Field(
        400, ge=1, le=1_000_000, description="mails that ask to confirm one client address can cause in an hour"
    )
    confirm_link: Annotated[str, link_template("{token}")] = Field(
        "", description="the front end's page to confirm on, with {token}; else one of ours"
    )

    @property
    def most_streams(self) -> int:
        """The live streams one process feeds; a quarter of its connections is left for requests that end."""
        return min(self.stream_limit, self.most_connections * 3 // 4)
