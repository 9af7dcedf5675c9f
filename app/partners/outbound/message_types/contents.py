"""What rooms have announced, read before anything is done about it: what makes no sense must hold nobody up."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, StrictBool, ValidationError
from sqlalchemy import Row

from app.kit.logs import log
from app.people.consents.service import CONSENT_GIVEN
from app.people.personal_data.data_rights import PERSON_ERASED
from app.petitions.outbox import CLOSED, MILESTONE_REACHED, PUBLISHED
from app.signatures.background.withdrawal_messages import SIGNATURE_WITHDRAWN


class _Petition(BaseModel):
    petition_id: UUID
    at: datetime | None


class _Milestone(_Petition):
    threshold_count: int
    signature_count: int


class _Consent(BaseModel):
    consent_id: UUID


class _Withdrawal(BaseModel):
    petition_id: UUID
    signature_id: UUID
    person_id: str
    brought: StrictBool


class _Erasure(BaseModel):
    person_id: str
    signature_ids: list[UUID]
    at: datetime


_CONTENTS: Mapping[str, type[BaseModel]] = {
    PUBLISHED: _Petition,
    MILESTONE_REACHED: _Milestone,
    CLOSED: _Petition,
    CONSENT_GIVEN: _Consent,
    SIGNATURE_WITHDRAWN: _Withdrawal,
    PERSON_ERASED: _Erasure,
}
# These are for one organization alone.
_ADDRESSED = {CONSENT_GIVEN, SIGNATURE_WITHDRAWN, PERSON_ERASED}


class Said(NamedTuple):
    """An outbox message that is understood; in its content ids and times are text, spelt in one way."""

    number: int
    type: str
    organization_id: UUID | None
    content: dict[str, Any]


def understood(rows: Iterable[Row[int, str, UUID | None, dict[str, Any]]]) -> list[Said]:
    """Those of these outbox messages that make sense. Each of the others is logged, without what it says."""
    said = []
    for row in rows:
        one = _understood(*row)
        if one is None:
            log.error("an announcement makes no sense", type=row.type, number=row.number)
        else:
            said.append(one)
    return said


def _understood(number: int, type_: str, organization_id: UUID | None, content: object) -> Said | None:
    if type_ not in _CONTENTS or (type_ in _ADDRESSED and organization_id is None):
        return None
    try:
        read = _CONTENTS[type_].model_validate(content)
    except ValidationError:
        return None
    return Said(number, type_, organization_id, read.model_dump(mode="json"))
