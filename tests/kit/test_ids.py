"""Identifiers: UUIDv7, in the order of their making."""

import time
from uuid import RFC_4122

from app.kit.database.ids import uuid7


def test_ids_are_version_7_of_this_moment() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= made.int >> 80 <= after


def test_ids_are_unique_and_in_the_order_of_their_making() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert len(set(made)) == len(made)
    # A clock that is set back, or two ids within a quarter of a microsecond, may swap neighbours; nothing more.
    moments = [id_.int >> 64 for id_ in made]
    assert moments == sorted(moments)


def test_an_id_cannot_be_guessed_from_the_one_before() -> None:
    tails = [uuid7().int & (1 << 62) - 1 for _ in range(1000)]
    assert len(set(tails)) == 1000
    assert min(tails) < 1 << 58
    assert max(tails) > 1 << 61
