"""JSON that other systems write, whatever its fields: one object, or an array read item by item.

What could be read in two ways is refused as a whole, as in `inbound/reading.py`.
"""

from collections.abc import Iterator
from typing import Any

from app.kit.web.large_bodies import off_loop
from app.partners.inbound.json_split import (
    SPACE,
    NothingSent,
    NotJsonText,
    behind_mark,
    counted,
    is_too_large,
    look_closely,
    values_of,
)

# Decoding goes through so many bytes in the time that others, such as hashing, take for one.
SLOWER = 16


async def read_object(body: bytes) -> dict[str, Any]:
    """The one object that is the body; NotJsonText, DuplicateKeys, TooDeep, NothingSent."""
    return await off_loop(len(body) * SLOWER, _object, body)


def _object(body: bytes) -> dict[str, Any]:
    text = body[behind_mark(body) :]
    if not text.strip(SPACE):
        raise NothingSent
    value = look_closely(text)
    if not isinstance(value, dict):
        raise NotJsonText("It must be an object.")
    return value


def read_array(body: bytes) -> Iterator[tuple[Any, bytes]]:
    """The items of the array that is the body, each as it was read and as it is written; of one that is too large to be
    read, None. An array of nothing holds none.

    NotJsonText, DuplicateKeys, TooDeep and TooManyItems, and ItemTooLarge of an item that has no end in sight, are
    about the whole of it, whenever they come.
    """
    if not body[behind_mark(body) :].lstrip(SPACE).startswith(b"["):
        raise NotJsonText("It must be an array.") if body.strip(SPACE) else NothingSent
    for text in counted(values_of(body)):
        yield (None if is_too_large(text) else look_closely(text)), text
