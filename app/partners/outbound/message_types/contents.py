"""Reading outbox rows: each is validated against its type's content model before anything is done about it.

A row that cannot be understood is logged and dropped: it must hold nobody up.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, StrictBool, ValidationError
from sqlalchemy import Row

from app.kit.logs import log
from app.kit.webhooks.message_types import MessageType, MessageTypes


class PetitionContent(BaseModel):
    """Something happened to a petition."""

    petition_id: UUID
    at: datetime | None


class MilestoneContent(PetitionContent):
    """A petition's count has reached a threshold."""

    threshold_count: int
    signature_count: int


class ConsentContent(BaseModel):
    """Somebody consented to the organization, with a signature."""

    consent_id: UUID


class WithdrawalContent(BaseModel):
    """A signature was withdrawn. `brought`: it was the organization that had brought it."""

    petition_id: UUID
    signature_id: UUID
    person_id: str
    brought: StrictBool


class ErasureContent(BaseModel):
    """Somebody was erased, and these are their signatures that the organization brought."""

    person_id: str
    signature_ids: list[UUID]
    at: datetime


class OutboxRow(NamedTuple):
    """An outbox row that is understood; in its content ids and times are text, spelt in one way."""

    number: int
    type: MessageType
    organization_id: UUID | None
    content: dict[str, Any]


def understood(types: MessageTypes, rows: Iterable[Row[int, str, UUID | None, dict[str, Any]]]) -> list[OutboxRow]:
    """Those of these outbox rows that make sense. Each of the others is logged, without what it says."""
    found = []
    for number, type_name, organization_id, content in rows:
        type_ = types.by_outbox_type.get(type_name)
        read = _read(type_, organization_id, content) if type_ is not None else None
        if type_ is None or read is None:
            log.error("outbox message cannot be understood", type=type_name, number=number)
        else:
            found.append(OutboxRow(number, type_, organization_id, read))
    return found


def _read(type_: MessageType, organization_id: UUID | None, content: object) -> dict[str, Any] | None:
    assert type_.content is not None
    assert type_.audience is not None
    if type_.audience.is_addressed and organization_id is None:
        return None
    try:
        return type_.content.model_validate(content).model_dump(mode="json")
    except ValidationError:
        return None
