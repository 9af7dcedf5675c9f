"""Schemas of the audit log."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field, PlainSerializer

from app.kit.database.paging import Paging, UnknownCursor
from app.kit.text import base64url
from app.kit.text.fields import Moment, View
from app.organizations.models import Category

_NUMBER_BYTES = 8
_LONGEST = 64
Digest = Annotated[bytes, PlainSerializer(lambda digest: digest.hex(), return_type=str)]


class AuditPaging(Paging):
    """The query parameters of the log: each narrows it."""

    key: Annotated[UUID | None, Query(description="of this key")] = None
    verb: Annotated[str | None, Query(max_length=_LONGEST, description="of this verb", examples=["people.look"])] = None
    object: Annotated[
        str | None,
        Query(max_length=2 * _LONGEST, description="about this kind, or this one: `petition` or `petition:<id>`"),
    ] = None
    since: Annotated[Moment | None, Query(description="at this time or later")] = None
    until: Annotated[Moment | None, Query(description="before this time")] = None

    def before(self) -> int | None:
        """The number behind which the page starts; UnknownCursor."""
        if self.cursor is None:
            return None
        try:
            number = base64url.decode(self.cursor)
        except ValueError:
            raise UnknownCursor from None
        if len(number) != _NUMBER_BYTES:
            raise UnknownCursor
        return int.from_bytes(number, signed=True)


def cursor_of(number: int) -> str:
    """The cursor of the page that comes after this entry."""
    return base64url.encode(number.to_bytes(_NUMBER_BYTES, signed=True))


class AuditEntryView(View):
    """An entry of the audit log. It names nobody but keys, organizations and things."""

    number: Annotated[int, Field(description="without gaps")]
    at: datetime
    key_id: Annotated[UUID | None, Field(description="null: the server's command line")]
    organization_id: UUID | None
    role: str
    verb: Annotated[str, Field(examples=["petition.archive", "people.look"])]
    category: Category
    object_kind: str
    object_id: str | None
    row_count: Annotated[int, Field(description="how many rows were shown or changed")]
    fields: Annotated[list[str], Field(description="the names of what was set")]
    reason: str | None
    pending_act_id: UUID | None
    sha256: Annotated[
        Digest, Field(validation_alias="digest", description="over this entry and the digest before it, in hex")
    ]


class AuditPage(BaseModel):
    """A page of the log, newest first."""

    items: list[AuditEntryView]
    next_cursor: str | None
