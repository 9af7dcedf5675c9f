"""From the bytes of a webhook to what it brings: one object, an array, or lines, without ever holding all of it parsed.

What could be read in two ways is refused as a whole: duplicate keys, deep nesting, and an array that is none. A line
that is no JSON, or an item that is no signature, costs only itself.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError

from app.kit.problems import Invalid, Problem, errors_of
from app.partners.schemas import PartnerSigning

MOST_ITEMS = 10_000
DEEPEST = 32
# Bytes of one item: a comment of 2,000 letters and twenty consents, all of it escaped, with room to spare.
LONGEST_ITEM = 128 * 1024
# Errors that are told of one item.
_MOST_ERRORS = 20
_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
# Strings as a whole, and what is neither string nor bracket; the second stops at commas too.
_FLAT = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_BETWEEN = re.compile(rb'(?:[^",\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_LINE = re.compile(rb"[ \t\r\n]*+([^\n]++)")
_REFERENCE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

Item: TypeAlias = PartnerSigning | Problem


class NotJsonText(Problem):
    """This is not valid JSON."""

    slug = "not-json"


class DuplicateKeys(Problem):
    """An object names the same key twice: it could be read in two ways."""

    slug = "duplicate-keys"


class TooDeep(Problem):
    """The body is nested more than 32 deep."""

    slug = "too-deep"


class NothingSent(Problem):
    """There is nothing in the body."""

    slug = "nothing-sent"


class TooManyItems(Problem):
    """The body holds more than 10,000 items."""

    status = 413
    slug = "too-many-items"


class ItemTooLarge(Problem):
    """The item is larger than 128 KiB."""

    status = 413
    slug = "item-too-large"


class NoSignature(Invalid):
    """This is not a valid signature."""

    slug = "invalid-signature"

    def __init__(self, errors: list[dict[str, str]], reference: str | None = None) -> None:
        """`reference`: the partner's own id of it, if it can be read."""
        super().__init__(errors=errors)
        self.reference = reference


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DuplicateKeys
    return found


def _number(_text: str) -> int:
    # Python would refuse one of more than 4,300 digits.
    return 0


def _none(text: str) -> None:
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_int=_number, parse_float=_number, parse_constant=_none)


def read_items(body: bytes, *, lines: bool) -> Iterator[Item]:
    """What the body brings, in order; `lines`: one JSON text in each.

    NotJsonText, DuplicateKeys, TooDeep, NothingSent or TooManyItems are about the whole of it, whenever they come.
    """
    start = len(_MARK) if body.startswith(_MARK) else 0
    count = 0
    for count, text in enumerate(_lines(body, start) if lines else _values(body, start), 1):
        if count > MOST_ITEMS:
            raise TooManyItems
        yield _read(text, costs_itself=lines)
    if not count:
        raise NothingSent


def _lines(body: bytes, start: int) -> Iterator[bytes]:
    # Not `finditer`: behind the last line it would try every space there is, and from each all that follow.
    while line := _LINE.match(body, start):
        yield line[1]
        start = line.end()


def _values(body: bytes, start: int) -> Iterator[bytes]:
    """The one object there is, or the items of the array."""
    text = body[start : start + 1] if body[start : start + 1] in {b"[", b"{"} else body[start:].lstrip(_SPACE)[:1]
    if text == b"[":
        yield from _of_array(body, body.index(b"[") + 1)
    elif text == b"{":
        yield body[start:] if start else body
    elif text:
        raise NotJsonText


def _of_array(body: bytes, at: int) -> Iterator[bytes]:
    """The texts between the commas of an array that begins before `at`; each is yet to be read."""
    begin, depth, first = at, 1, at
    while depth:
        end = _end(_BETWEEN if depth == 1 else _FLAT, body, at)
        mark = body[end : end + 1]
        if mark == b",":
            yield body[begin:end]
            begin = end + 1
        else:
            depth = _deeper(depth, mark)
        at = end + 1
    last = body[begin : at - 1]
    if mark != b"]" or body[at:].strip(_SPACE):
        raise NotJsonText
    if begin != first or last.strip(_SPACE):
        yield last


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def _deeper(depth: int, mark: bytes) -> int:
    """How deep it is behind this bracket; TooDeep, NotJsonText when it is none."""
    if mark in {b"[", b"{"}:
        if depth == DEEPEST:
            raise TooDeep
        return depth + 1
    if mark in {b"]", b"}"}:
        return depth - 1
    raise NotJsonText


def _read(text: bytes, *, costs_itself: bool) -> Item:
    if len(text) > LONGEST_ITEM:
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
    most = text.translate(None, _SPACE).count(b'":')
    return most == len(item.model_fields_set) + sum(len(consent.model_fields_set) for consent in item.consents)


def look_closely(text: bytes) -> Any:
    """The value of a JSON text; DuplicateKeys, TooDeep, NotJsonText."""
    _check_depth(text)
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        raise NotJsonText from None


def _check_depth(text: bytes) -> None:
    at = depth = 0
    while (at := _end(_FLAT, text, at)) < len(text):
        depth = max(_deeper(depth, text[at : at + 1]), 0)
        at += 1


def _value_of(text: bytes, found: Sequence[Mapping[str, Any]]) -> Any:
    """What the text says, if both parsers call it JSON."""
    value = look_closely(text)
    if any(error["type"] == "json_invalid" for error in found):
        raise NotJsonText
    return value


def _refused(text: bytes, error: ValidationError, *, costs_itself: bool) -> Problem:
    """Why a text is no signature. Whatever speaks against the whole body is raised."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    try:
        value = _value_of(text, found)
    except NotJsonText as problem:
        if not costs_itself:
            raise
        return problem
    given = value.get("id") if isinstance(value, dict) else None
    reference = given if isinstance(given, str) and _REFERENCE.fullmatch(given) else None
    return NoSignature(errors_of(found[:_MOST_ERRORS]), reference)
