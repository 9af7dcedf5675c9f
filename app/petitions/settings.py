"""What an operator can set about petitions."""

from typing import Annotated

from pydantic import Field

from app.kit.settings import ServiceSettings, link_template


class PetitionSettings(ServiceSettings):
    """For whoever leads somebody to a petition's page."""

    petition_link: Annotated[str, link_template("{petition}")] = Field(
        "", description="the front end's page of a petition, with {petition}; else none is named"
    )
