"""What partners send and are told."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.kit.text.countries import Country
from app.kit.text.fields import Line
from app.signatures.schemas import ImportedSigning

# Printable ASCII without spaces and without "@": an id, and never somebody's address.
Reference = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:/+=-]*$"),
    Field(examples=["crm:4711"]),
]


class PartnerSigning(ImportedSigning):
    """One signature, as a partner posts it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "petition": "repeal-the-act",
                    "id": "crm:4711",
                    "signed_at": "2026-11-20T09:30:00Z",
                    "given_name": "Amina",
                    "family_name": "Okello",
                    "email": "amina@example.org",
                    "country": "UG",
                }
            ]
        }
    )

    petition: Annotated[Line, Field(description="id or slug", examples=["repeal-the-act"])]
    id: Annotated[Reference | None, Field(description="your own id of this signature")] = None
    # Narrower again once the terms have been asked: nothing is signed without one.
    country: Annotated[Country | None, Field(description="needed, unless your terms say which one is meant")] = None  # type: ignore[assignment]


class ItemProblem(BaseModel):
    """Why an item is refused: problem details (RFC 9457)."""

    type: Annotated[str, Field(examples=["urn:multitude:problem:petition-not-covered"])]
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, Any]] = []


class ItemResult(BaseModel):
    """What became of one item. `signature_id` is told of what was counted or waits to be confirmed."""

    index: int
    id: str | None = None
    status: Literal["counted", "pending", "duplicate", "refused"]
    signature_id: UUID | None = None
    problem: ItemProblem | None = None


class ReceivedView(BaseModel):
    """One result per item, in order, and how many of each there are."""

    results: list[ItemResult]
    counted: int
    pending: int
    duplicate: int
    refused: int
