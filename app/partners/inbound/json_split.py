"""Cutting a body into the texts of its items, and looking at one closely: whatever it says, in bounded pieces of work.

Between two items the loop can be given back, so an item is only followed so far: how long it is, and how many objects
and lists it holds, is looked at before anything is decoded.
"""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from app.kit.problems import Problem

MOST_ITEMS = 10_000
DEEPEST = 32
# Bytes of one item: a comment of 2,000 letters and twenty consents, all of it escaped, with room to spare.
LONGEST_ITEM = 32 * 1024
# Brackets of one item: a signature with twenty consents has 44.
MOST_BRACKETS = 1000
# Bytes that are gone through for the end of an item that is too large, so that it costs only itself.
FARTHEST = 256 * 1024
MARK = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
# As many digits as an id may have. Python would refuse a number of more than 4,300.
_LONGEST_NUMBER = 40
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# Strings as a whole, and what is neither string nor bracket; the second stops at commas too.
_FLAT = re.compile(rb'(?:[^"\[\]{}]++|%s)*+' % _STRING, re.DOTALL)
_BETWEEN = re.compile(rb'(?:[^",\[\]{}]++|%s)*+' % _STRING, re.DOTALL)
_ONE_STRING = re.compile(_STRING, re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*+")
_BRACKETS = b"[]{}"
_ALL_ELSE = bytes(set(range(256)) - set(_BRACKETS))
# As signed bytes: one deeper, one less deep.
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")


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
    """The item is larger than 32 KiB, or holds more than 500 objects and lists."""

    status = 413
    slug = "item-too-large"


def counted(texts: Iterator[bytes]) -> Iterator[bytes]:
    """The same; TooManyItems."""
    for count, text in enumerate(texts, 1):
        if count > MOST_ITEMS:
            raise TooManyItems
        yield text


def behind_mark(body: bytes) -> int:
    """Where the body begins, behind its byte order mark."""
    return len(MARK) if body.startswith(MARK) else 0


def lines_of(body: bytes) -> Iterator[bytes]:
    """The lines that are not blank; of one that is too large no more than shows it."""
    start = behind_mark(body)
    while (start := _end(_BLANK, body, start, len(body))) < len(body):
        end = body.find(b"\n", start)
        end = end if end >= 0 else len(body)
        yield body[start : min(end, start + LONGEST_ITEM + 1)]
        start = end


def values_of(body: bytes) -> Iterator[bytes]:
    """The one object there is, or the items of the array, yet to be read; NotJsonText, TooDeep, ItemTooLarge."""
    start = _end(_BLANK, body, behind_mark(body), len(body))
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


def is_too_large(text: bytes) -> bool:
    """Whether an item is not to be read: it is too long, or holds too much."""
    return len(text) > LONGEST_ITEM or (_most_brackets(text) > MOST_BRACKETS and len(_brackets(text)) > MOST_BRACKETS)


def look_closely(text: bytes) -> Any:
    """The value of a JSON text; DuplicateKeys, TooDeep, NotJsonText. Numbers too long for an id are None."""
    # Strings hold brackets too, but mostly there are few of either.
    if _most_brackets(text) > DEEPEST:
        _check_depth(text)
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        raise NotJsonText from None


def _most_brackets(text: bytes) -> int:
    return sum(map(text.count, (b"[", b"]", b"{", b"}")))


def _brackets(text: bytes) -> bytes:
    """The brackets outside of strings."""
    return _ONE_STRING.sub(b"", text).translate(None, _ALL_ELSE)


def _check_depth(text: bytes) -> None:
    steps = memoryview(_brackets(text).translate(_STEPS)).cast("b")
    if max(accumulate(steps), default=0) > DEEPEST:
        raise TooDeep


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DuplicateKeys
    return found


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else None


def _none(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole, parse_constant=_none)
