"""Schemas of acts that wait."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field

from app.kit.database.paging import Paging
from app.kit.text.fields import View
from app.organizations.models import PendingState


class PendingActPaging(Paging):
    """The query parameters of the list."""

    state: Annotated[PendingState | None, Query(description="only those in this state")] = None


_FAILURE = (
    "the problem that stood against it, when it failed; `key-ended`: the key that asked for it was no longer live"
)


class PendingActView(View):
    """An act that waits, or what became of it. Whom an erasure is about is not shown."""

    id: UUID
    verb: Annotated[str, Field(examples=["petition.archive"])]
    object_kind: str
    object_id: UUID | None
    content: Annotated[dict[str, Any], Field(description="what is to be set")]
    state: PendingState
    asked_by: Annotated[UUID, Field(description="the key that asked")]
    asked_at: datetime
    due_at: Annotated[datetime, Field(description="when it is carried out, unless it is confirmed or cancelled before")]
    decided_by: Annotated[UUID | None, Field(description="the key that confirmed or cancelled it")]
    decided_at: datetime | None
    failure: Annotated[str | None, Field(description=_FAILURE)]
