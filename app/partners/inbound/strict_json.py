"""A strict JSON decoder: what could be read in two ways, or is nested without end, is refused."""

import json
import re
from itertools import accumulate
from typing import Any

from app.kit.problems import Problem

DEEPEST = 32
# As many digits as an id may have. Python would refuse a number of more than 4,300.
_LONGEST_NUMBER = 40
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
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


def decode(text: bytes) -> Any:
    """The value of a JSON text; DuplicateKeys, TooDeep, NotJsonText. Numbers too long for an id are None."""
    # Strings hold brackets too, but mostly there are few of either.
    if sum(map(text.count, (b"[", b"]", b"{", b"}"))) > DEEPEST:
        _check_depth(text)
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        raise NotJsonText from None


def brackets_of(text: bytes) -> bytes:
    """The brackets outside of strings."""
    return _STRING.sub(b"", text).translate(None, _ALL_ELSE)


def _check_depth(text: bytes) -> None:
    steps = memoryview(brackets_of(text).translate(_STEPS)).cast("b")
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
