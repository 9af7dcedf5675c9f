"""Items: a body is split into one object, the parts of an array, or lines, and each is read as a signature.

All of the body is never held parsed, and the work between two items is bounded: before anything is decoded it is looked
at how long an item is, and how many objects and lists it holds. What could be read in two ways is refused as a whole:
duplicate keys, deep nesting, and an array that is none. A line that is no JSON, or an item that is no signature, costs
only itself.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

from pydantic import ValidationError

from app.kit.problems import Invalid, Problem, details_of, errors_of
from app.kit.web.bodies import has_too_many_fields
from app.partners.inbound import strict_json
from app.partners.inbound.strict_json import DEEPEST, NotJsonText, TooDeep
from app.partners.schemas import PartnerSigning

MOST_ITEMS = 10_000
# Bytes of one item: a comment of 2,000 letters and twenty consents, all of it escaped, with room to spare.
LONGEST_ITEM = 32 * 1024
# Brackets of one item: a signature with twenty consents has 44.
MOST_BRACKETS = 1000
# Bytes that are gone through for the end of an item that is too large, so that it costs only itself.
FARTHEST = 256 * 1024
MARK = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
_REFERENCE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# Strings as a whole, and what is neither string nor bracket; the second stops at commas too.
_FLAT = re.compile(rb'(?:[^"\[\]{}]++|%s)*+' % _STRING, re.DOTALL)
_BETWEEN = re.compile(rb'(?:[^",\[\]{}]++|%s)*+' % _STRING, re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*+")

Item: TypeAlias = PartnerSigning | Problem


class NothingSent(Problem):
    """There is nothing in the body."""

    slug = "nothing-sent"


class TooManyItems(Problem):
    """The body holds more than 10,000 items."""

    status = 413
    slug = "too-many-items"


class ItemTooLarge(Problem):
    """The item is larger than 32 KiB, or holds more than 400 fields, or 500 objects and lists."""

    status = 413
    slug = "item-too-large"


class NoSignature(Invalid):
    """This is not a valid signature."""

    slug = "invalid-signature"

    def __init__(self, errors: list[dict[str, str]], reference: str | None = None) -> None:
        """`reference`: the partner's own id of it, if it can be read."""
        super().__init__(errors=errors)
        self.reference = reference


def read_items(body: bytes, *, lines: bool) -> Iterator[Item]:
    """What the body brings, in order; `lines`: one JSON text in each.

    NotJsonText, DuplicateKeys, TooDeep, NothingSent, TooManyItems, and ItemTooLarge of an item that has no end in
    sight, are about the whole of it, whenever they come.
    """
    text = None
    for text in bounded(lines_of(body) if lines else values_of(body)):
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
        strict_json.decode(text)
    return item


def is_too_large(text: bytes) -> bool:
    """Whether an item is not to be read: it is too long, or holds too much."""
    if len(text) > LONGEST_ITEM or has_too_many_fields(text):
        return True
    # Strings hold brackets too, but mostly there are few of either.
    most = sum(map(text.count, (b"[", b"]", b"{", b"}")))
    return most > MOST_BRACKETS and len(strict_json.brackets_of(text)) > MOST_BRACKETS


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
        value = strict_json.decode(text)
    except NotJsonText as problem:
        if not costs_itself:
            raise
        return problem
    given = value.get("id") if isinstance(value, dict) else None
    reference = given if isinstance(given, str) and _REFERENCE.fullmatch(given) else None
    found = details_of(error)
    if any(one["type"] == "json_invalid" for one in found):
        # Such as a surrogate alone: there is no doubt where the item ends, but it cannot be stored as text.
        return NotJsonText()
    return NoSignature(errors_of(found), reference)


def bounded(texts: Iterator[bytes]) -> Iterator[bytes]:
    """The same; TooManyItems."""
    for count, text in enumerate(texts, 1):
        if count > MOST_ITEMS:
            raise TooManyItems
        yield text


def after_mark(body: bytes) -> int:
    """Where the body begins, after its byte order mark."""
    return len(MARK) if body.startswith(MARK) else 0


def lines_of(body: bytes) -> Iterator[bytes]:
    """The lines that are not blank; of one that is too large no more than shows it."""
    start = after_mark(body)
    while (start := _end(_BLANK, body, start, len(body))) < len(body):
        end = body.find(b"\n", start)
        end = end if end >= 0 else len(body)
        yield body[start : min(end, start + LONGEST_ITEM + 1)]
        start = end


def values_of(body: bytes) -> Iterator[bytes]:
    """The one object there is, or the items of the array, yet to be read; NotJsonText, TooDeep, ItemTooLarge."""
    start = _end(_BLANK, body, after_mark(body), len(body))
    first = body[start : start + 1]
    if first == b"[":
        yield from _items_of(body, start + 1)
    elif first == b"{":
        yield body[start:] if start else body
    elif first:
        raise NotJsonText


def _items_of(body: bytes, at: int) -> Iterator[bytes]:
    """The texts between the commas of an array that begins before `at`."""
    first = at
    while True:
        end, mark = _end_of_item(body, at)
        if mark == b"]":
            break
        yield body[at:end]
        at = end + 1
    if body[end + 1 :].strip(SPACE):
        raise NotJsonText
    if at != first or body[at:end].strip(SPACE):
        yield body[at:end]


def _end_of_item(body: bytes, begin: int) -> tuple[int, bytes]:
    """Where the item that begins here ends, and what is there: a comma, or the end of the array.

    ItemTooLarge when that is too far away.
    """
    at, depth, limit = begin, 1, min(len(body), begin + FARTHEST)
    for _ in range(MOST_BRACKETS + 1):
        at = _end(_BETWEEN if depth == 1 else _FLAT, body, at, limit)
        mark = body[at : at + 1]
        if at >= limit < len(body) or (mark == b'"' and limit < len(body)):
            raise ItemTooLarge
        depth += _step(mark, depth)
        if depth == 1 and mark == b",":
            return at, mark
        if not depth:
            if mark != b"]":
                raise NotJsonText
            return at, mark
        at += 1
    raise ItemTooLarge


def _end(pattern: re.Pattern[bytes], text: bytes, at: int, limit: int) -> int:
    match = pattern.match(text, at, limit)
    assert match is not None
    return match.end()


def _step(mark: bytes, depth: int) -> int:
    """By how much it is deeper behind this mark; TooDeep, NotJsonText when it is none."""
    if mark in {b"[", b"{"}:
        if depth == DEEPEST:
            raise TooDeep
        return 1
    if mark in {b"]", b"}"}:
        return -1
    if mark == b",":
        return 0
    raise NotJsonText
