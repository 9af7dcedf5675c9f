"""JSON that other systems write, whatever its fields: read value by value, never all of a large body at once.

What could be read in two ways is refused as a whole, as in `inbound/reading.py`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from app.partners.inbound.reading import (
    DEEPEST,
    MOST_ITEMS,
    DuplicateKeys,
    NothingSent,
    NotJsonText,
    TooDeep,
    TooManyItems,
)

# As many digits as an id may have. Python would refuse a number of more than 4,300.
_LONGEST_NUMBER = 40
_SPACE = re.compile(r"[ \t\r\n]*")


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


def text_of(body: bytes) -> str:
    """The body as text; NotJsonText when it is not UTF-8, NothingSent when there is none."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotJsonText from None
    if not text.strip(" \t\r\n"):
        raise NothingSent
    return text


def read_object(body: bytes) -> dict[str, Any]:
    """The one object that is the body; NotJsonText, DuplicateKeys, TooDeep, NothingSent."""
    text = text_of(body)
    value, end = _value_at(text, _behind_space(text, 0))
    if _behind_space(text, end) < len(text):
        raise NotJsonText
    if not isinstance(value, dict):
        raise NotJsonText("It must be an object.")
    return value


def read_array(text: str) -> Iterator[tuple[Any, str]]:
    """The items of the array that is the text, each as it was read and as it is written.

    NotJsonText, DuplicateKeys, TooDeep and TooManyItems are about the whole of it, whenever they come.
    """
    at = _behind_space(text, 0)
    if text[at : at + 1] != "[":
        raise NotJsonText("It must be an array.")
    at = _behind_space(text, at + 1)
    count, mark = 0, "," if text[at : at + 1] != "]" else "]"
    while mark == ",":
        begin = _behind_space(text, at)
        value, end = _value_at(text, begin)
        if (count := count + 1) > MOST_ITEMS:
            raise TooManyItems
        yield value, text[begin:end]
        end = _behind_space(text, end)
        mark, at = text[end : end + 1], end + 1
    if mark != "]" or _behind_space(text, at if count else at + 1) < len(text):
        raise NotJsonText


def _behind_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _value_at(text: str, at: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
    except RecursionError:
        raise TooDeep from None
    except ValueError:
        raise NotJsonText from None
    _check_depth(value, DEEPEST)
    return value, end


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise TooDeep
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)
