"""OSDI's shapes, as far as they are spoken here: the helper's body, and the resources, in HAL.

Source: the OSDI documents (aep, petitions, record_signature) and draft-kelly-json-hal.
"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.kit.database.paging import HIGHEST_LIMIT, Paging

MEDIA_TYPE = "application/hal+json"
# OSDI's own default.
PER_PAGE = 25


class HalResponse(JSONResponse):
    """JSON with links."""

    media_type = MEDIA_TYPE


class HalLink(BaseModel):
    """Where to go from a resource."""

    href: str
    title: str | None = None
    name: str | None = None
    templated: bool | None = None


HalLinks = Annotated[dict[str, HalLink | list[HalLink]], Field(alias="_links")]


class Hal(BaseModel):
    """A resource: its links beside its fields."""

    model_config = ConfigDict(populate_by_name=True)

    links: HalLinks

    def as_bytes(self) -> bytes:
        """The body of an answer; what there is none of is left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class OsdiEntryPoint(Hal):
    """The API entry point: what is offered, and where."""

    motd: str
    vendor_name: str
    product_name: str
    osdi_version: str
    max_pagesize: int
    namespace: str


class OsdiTarget(BaseModel):
    """Whom a petition is addressed to."""

    name: str


class OsdiPetition(Hal):
    """A petition and its total."""

    identifiers: list[str]
    origin_system: str
    created_date: datetime
    modified_date: datetime
    name: Annotated[str, Field(description="its slug")]
    title: str
    summary: Annotated[str, Field(description="the ask")]
    description: Annotated[str | None, Field(description="the background")] = None
    petition_text: Annotated[str, Field(description="the ask")]
    browser_url: str | None = None
    total_signatures: int
    target: list[OsdiTarget]


class OsdiPetitionList(BaseModel):
    """The petitions of a page."""

    model_config = ConfigDict(populate_by_name=True)

    petitions: Annotated[list[OsdiPetition], Field(alias="osdi:petitions")]


class OsdiPetitions(Hal):
    """A page of petitions, newest first. `_links.next` leads to the next one, and alone knows the way."""

    page: int
    per_page: int
    total_pages: int
    total_records: int
    embedded: Annotated[OsdiPetitionList, Field(alias="_embedded")]


class OsdiPaging(BaseModel):
    """What a client asks of a collection."""

    page: Annotated[int, Query(ge=1, le=1_000_000, description="1, or what stands in a `next` link")] = 1
    per_page: Annotated[int, Query(ge=1, le=HIGHEST_LIMIT)] = PER_PAGE
    cursor: Annotated[str | None, Query(max_length=64, description="what stands in a `next` link")] = None

    def as_paging(self) -> Paging:
        """The same, as any list is paged here."""
        return Paging(cursor=self.cursor, limit=self.per_page)


class OsdiSignature(Hal):
    """A signature that was recorded; nothing in it is personal. Without an identifier of ours it had been before."""

    identifiers: list[str]
    origin_system: str
    created_date: datetime
    modified_date: datetime
    action_date: datetime


class OsdiSigning(BaseModel):
    """The body of the helper. Whatever else OSDI puts here is accepted and passed over."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "identifiers": ["our_system:4711"],
                    "person": {
                        "given_name": "Amina",
                        "family_name": "Okello",
                        "email_addresses": [{"address": "amina@example.org", "status": "subscribed"}],
                        "postal_addresses": [{"postal_code": "256", "country": "UG"}],
                    },
                }
            ]
        }
    )

    identifiers: Annotated[Any, Field(description="the first is by what you know this signature: once only")] = None
    person: Annotated[
        Any,
        Field(
            description="`given_name`, `family_name`, `email_addresses` (`address`, `status`), `postal_addresses` "
            "(`postal_code`, `region`, `country`), `languages_spoken`"
        ),
    ] = None
    comments: Any = None
    action_date: Any = None
    created_date: Any = None
    referrer_data: Annotated[Any, Field(description="`source`")] = None
