"""Field types shared by every room's schemas: what a slug, a line and a text are."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    StringConstraints,
)

# PostgreSQL stores no NUL; the other control characters have no place in a name and would break a CSV.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_BUT_BREAKS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _single_line(value: str) -> str:
    if value.isprintable():
        return value
    if _CONTROL.search(value):
        raise ValueError("must be a single line without control characters")
    return value


def _no_control(value: str) -> str:
    if _CONTROL_BUT_BREAKS.search(value):
        raise ValueError("must not contain control characters")
    return value


def _not_an_id(value: str) -> str:
    if _UUID.fullmatch(value):
        raise ValueError("must not look like an id")
    return value


def _as_written(value: object) -> object:
    # Pydantic would read a number, or digits, as seconds since 1970.
    if not isinstance(value, date) and not (isinstance(value, str) and "-" in value[1:]):
        raise ValueError("must be written as in RFC 3339")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


Slug = Annotated[
    str,
    StringConstraints(min_length=1, max_length=80, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$"),
    AfterValidator(_not_an_id),
]
Locale = Annotated[str, StringConstraints(max_length=35, pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_single_line)
]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_single_line)
]
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000),
    AfterValidator(_no_control),
]
# A few sentences, or nothing.
Paragraph = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000), AfterValidator(_no_control)]
Moment = Annotated[AwareDatetime, BeforeValidator(_as_written), AfterValidator(_in_utc)]
Day = Annotated[date, BeforeValidator(_as_written)]
Flag = Annotated[bool, Strict()]


class Body(BaseModel):
    """What a client sends: an unknown field is an error, for it is most often a misspelt one."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class View(BaseModel):
    """What a client is given, read from a row or a record."""

    model_config = ConfigDict(from_attributes=True)


def as_id(ref: str) -> UUID | None:
    """The id that a reference is, or None when it can only be a slug."""
    return UUID(ref) if _UUID.fullmatch(ref.lower()) else None


def changed(body: BaseModel) -> dict[str, Any]:
    """The fields that a PATCH names, as stored values; those it leaves out stay as they are."""
    return body.model_dump(exclude_unset=True)
