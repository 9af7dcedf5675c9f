"""From the bytes of a webhook to what it brings: one object, an array, or lines, without ever holding all of it parsed.

What could be read in two ways is refused as a whole: duplicate keys, deep nesting, and an array that is none. A line
that is no JSON, or an item that is no signature, costs only itself.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

from pydantic import ValidationError

from app.kit.problems import Invalid, Problem, errors_of
from app.partners.inbound.json_split import (
    SPACE,
    ItemTooLarge,
    NothingSent,
    NotJsonText,
    counted,
    is_too_large,
    lines_of,
    look_closely,
    values_of,
)
from app.partners.schemas import PartnerSigning

# Errors that are told of one item. With many more none is: building them takes longer than finding them.
_MOST_ERRORS, _TOO_MANY_ERRORS = 20, 200
_REFERENCE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

Item: TypeAlias = PartnerSigning | Problem


class NoSignature(Invalid):
    """This is not a valid signature."""

    slug = "invalid-signature"

    def __init__(self, errors: list[dict[str, str]], reference: str | None = None, detail: str | None = None) -> None:
        """`reference`: the partner's own id of it, if it can be read."""
        super().__init__(detail, errors=errors)
        self.reference = reference


def read_items(body: bytes, *, lines: bool) -> Iterator[Item]:
    """What the body brings, in order; `lines`: one JSON text in each.

    NotJsonText, DuplicateKeys, TooDeep, NothingSent, TooManyItems, and ItemTooLarge of an item that has no end in
    sight, are about the whole of it, whenever they come.
    """
    text = None
    for text in counted(lines_of(body) if lines else values_of(body)):
        yield _read(text, costs_itself=lines)
    if text is None:
        raise NothingSent


def _read(text: bytes, *, costs_itself: bool) -> Item:
    if is_too_large(text):
        return ItemTooLarge()
    try:
        item = PartnerSigning.model_validate_json(text)
    except ValidationError as error:
        return _refused(text, error, costs_itself=costs_itself)
    if not has_each_key_once(text, item):
        look_closely(text)
    return item


def has_each_key_once(text: bytes, item: PartnerSigning) -> bool:
    """Whether it is sure that no object of this text, which was read as `item`, names a key twice.

    Every key is followed by a colon, so there are at most as many as quotation marks before colons. The model refuses
    unknown keys, so every one that is there is among those it has set: as many of these mean that none was there twice.
    """
    most = text.translate(None, SPACE).count(b'":')
    return most == len(item.model_fields_set) + sum(len(consent.model_fields_set) for consent in item.consents)


def _refused(text: bytes, error: ValidationError, *, costs_itself: bool) -> Problem:
    """Why a text is no signature. Whatever speaks against the whole body is raised."""
    try:
        value = look_closely(text)
    except NotJsonText as problem:
        if not costs_itself:
            raise
        return problem
    given = value.get("id") if isinstance(value, dict) else None
    reference = given if isinstance(given, str) and _REFERENCE.fullmatch(given) else None
    if error.error_count() > _TOO_MANY_ERRORS:
        return NoSignature([], reference, f"It has more than {_TOO_MANY_ERRORS} errors.")
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(one["type"] == "json_invalid" for one in found):
        # Half a letter, such as a surrogate alone: no doubt where the item ends, but nothing that could be kept.
        return NotJsonText()
    return NoSignature(errors_of(found[:_MOST_ERRORS]), reference)
