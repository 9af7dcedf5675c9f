"""Disclosure control: how much of a count may be told without telling of one person.

What is proven needs five to share it. What is unproven anybody can pad: four false signatures lift one person's key
over any border that is known. There keys must stand above fifty, are told in tens, and every border is moved by a
secret draw (`draw`), so that whoever walks false signatures up to a border does not know when the next one crosses it.
"""

from collections.abc import Mapping
from datetime import datetime

from app.kit.crypto.digests import keyed_digest

# Fewer than this many under one key could single somebody out.
SMALLEST_PUBLIC_KEY = 5
# Where signatures are unproven: a key must stand above this, and is told in steps of ten.
UNPROVEN_ABOVE = 50
STEP = 10
OTHER = "other"


def draw(secret: bytes, *what: object) -> int:
    """A number from 0 to 9 that is always the same for `what`, and that nobody without the secret knows."""
    return int.from_bytes(keyed_digest(secret, "\x1f".join(("disclosure", *map(str, what))))) % STEP


def in_tens(count: int) -> int:
    """The count, rounded down to tens."""
    return count - count % STEP


def next_published(secret: bytes, what: str, stood: int, before: int, changed_at: datetime | None) -> int:
    """What is published of a key of which `stood` stood for an hour, when `before` was published since `changed_at`.

    A key appears when it stands above 50 by a draw of 0 to 9. The number then stays until the count has left its ten by
    further draws, which are made anew with each change. So one signature changes a row, at the most, once in ten times,
    and who has found a border has moved it.
    """
    below, above = (draw(secret, what, changed_at, side) for side in ("below", "above"))
    if before and before - below <= stood < before + STEP + above:
        return before
    if not before and stood <= UNPROVEN_ABOVE + above:
        return 0
    return in_tens(stood) if stood > UNPROVEN_ABOVE else 0


def fitted(published: Mapping[str, int], stood: Mapping[str, int], total: int) -> dict[str, int]:
    """The same, if it is no more than the total; else keys that stick above what stands are lowered to it at once."""
    if sum(published.values()) <= total:
        return dict(published)
    most = {key: in_tens(stood[key]) if stood[key] > UNPROVEN_ABOVE else 0 for key in published}
    return {key: min(number, most[key]) for key, number in published.items()}


def is_shared(secret: bytes, what: str, proven: int, counted: int) -> bool:
    """Whether so many share a mail domain or a client address that a rule may name it.

    Five who have proven it are enough. Of signatures that may all be false it takes some more, and nobody knows how
    many: four false ones beside a person's would else show whether that person had signed.
    """
    return proven >= SMALLEST_PUBLIC_KEY or counted >= SMALLEST_PUBLIC_KEY + draw(secret, what, "shared")


def about(count: int, border: int) -> int:
    """A count of five or more, rounded down to tens behind a border (0 to 9): 5, 10, 20, 30 and so on."""
    return max(SMALLEST_PUBLIC_KEY, in_tens(max(count - border, 0)))


def parts_about(parts: Mapping[str, int], told: int, border: int) -> dict[str, int]:
    """The parts of a count that is told as `about`, rounded alike; what is too small is added up as `other`."""
    rounded = {key: in_tens(max(count - border, 0)) for key, count in parts.items()}
    shown = {key: count for key, count in rounded.items() if count}
    rest = told - sum(shown.values())
    return shown | {OTHER: rest} if rest else shown
