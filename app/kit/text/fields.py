"""Field types shared by every room's schemas: what a slug, a line and a text are."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    Strict,
    StringConstraints,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.kit.problems import MOST_ERRORS, TOO_MANY_ERRORS

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


def _bounded(value: Any, handler: Callable[[Any], Any]) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        if error.error_count() > MOST_ERRORS:
            raise PydanticCustomError("too_many_errors", TOO_MANY_ERRORS) from None
        raise


# For a body that is a list; a `Body` bounds its own. Here and not where errors are told, for the framework builds all
# of them before anybody is asked: of 70,000 unknown fields that took 0.4 s.
BoundedErrors = WrapValidator(_bounded)


class Body(BaseModel):
    """What a client sends: an unknown field is an error, for it is most often a misspelt one."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _bound_errors(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        valid: Self = _bounded(value, handler)
        return valid


class View(BaseModel):
    """What a client is given, read from a row or a record."""

    model_config = ConfigDict(from_attributes=True)


def as_id(ref: str) -> UUID | None:
    """The id that a reference is, or None when it can only be a slug."""
    return UUID(ref) if _UUID.fullmatch(ref.lower()) else None


def changed(body: BaseModel) -> dict[str, Any]:
    """The fields that a PATCH names, as stored values; those it leaves out stay as they are."""
    return body.model_dump(exclude_unset=True)
