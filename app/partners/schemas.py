"""What partners send and are told."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from app.kit.fields import Line
from app.signatures.schemas import ImportedSigning

# Printable ASCII without spaces and without "@": an id, and never somebody's address.
Reference = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:/+=-]*$"),
    Field(examples=["crm:4711"]),
]


class PartnerSigning(ImportedSigning):
    """One signature, as a partner posts it."""

    petition: Annotated[Line, Field(description="id or slug", examples=["repeal-the-act"])]
    id: Annotated[Reference | None, Field(description="your own id of this signature")] = None


class ItemResult(BaseModel):
    """What became of one item. `signature_id` is told of what was counted or waits to be confirmed."""

    index: int
    id: str | None = None
    status: Literal["counted", "pending", "duplicate", "refused"]
    signature_id: UUID | None = None
    problem: dict[str, Any] | None = None


class ReceivedView(BaseModel):
    """One result per item, in order, and how many of each there are."""

    results: list[ItemResult]
    counted: int
    pending: int
    duplicate: int
    refused: int
