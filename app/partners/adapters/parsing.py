"""Parsing the JSON of other systems, whatever its fields: one object, or an array read item by item.

What could be read in two ways is refused as a whole, as in `inbound/items.py`.
"""

from collections.abc import Iterator
from typing import Any

from app.kit.web.large_bodies import off_loop
from app.partners.inbound import strict_json
from app.partners.inbound.items import SPACE, NothingSent, after_mark, bounded, is_too_large, values_of
from app.partners.inbound.strict_json import NotJsonText

# Decoding a byte takes as long as hashing so many.
DECODING_COST = 16


async def read_object(body: bytes) -> dict[str, Any]:
    """The one object that is the body; NotJsonText, DuplicateKeys, TooDeep, NothingSent."""
    return await off_loop(len(body) * DECODING_COST, _object, body)


def _object(body: bytes) -> dict[str, Any]:
    text = body[after_mark(body) :]
    if not text.strip(SPACE):
        raise NothingSent
    value = strict_json.decode(text)
    if not isinstance(value, dict):
        raise NotJsonText("It must be an object.")
    return value


def read_array(body: bytes) -> Iterator[tuple[Any, bytes]]:
    """The items of the array that is the body, each as it was read and as it is written; of one that is too large to be
    read, None. An array of nothing holds none.

    NotJsonText, DuplicateKeys, TooDeep and TooManyItems, and ItemTooLarge of an item that has no end in sight, are
    about the whole of it, whenever they come.
    """
    if not body[after_mark(body) :].lstrip(SPACE).startswith(b"["):
        raise NotJsonText("It must be an array.") if body.strip(SPACE) else NothingSent
    for text in bounded(values_of(body)):
        yield (None if is_too_large(text) else strict_json.decode(text)), text
