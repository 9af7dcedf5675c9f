"""Identifiers: UUIDv7, in the order of their making."""

import time
from uuid import RFC_4122, UUID

from app.kit.database import ids
from app.kit.database.ids import uuid7, uuid7_after, uuid7_of_second


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


def test_ids_of_a_second_tell_no_more_than_it_and_are_in_the_order_of_their_making() -> None:
    before = int(time.time())
    made = [uuid7_of_second() for _ in range(20_000)]
    after = int(time.time())
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    moments = {one.int >> 80 for one in made}
    assert all(moment % 1000 == 0 and before <= moment // 1000 <= after for moment in moments)
    assert made == sorted(set(made))
    # A webhook's signatures have its id, but for the last 14 bits.
    assert len({one.int >> 14 for one in made}) == len(made)


def test_ids_of_one_second_in_two_processes_have_nothing_in_common() -> None:
    tails = {ids._OfSecond().next().int & (1 << 62) - 1 for _ in range(1000)}
    assert len(tails) == 1000
    assert min(tails) < 1 << 58
    assert max(tails) > 1 << 60


def test_an_id_after_another_is_higher_whoever_made_that() -> None:
    ahead = [UUID(int=uuid7().int + (1000 << 80)), uuid7(), uuid7_of_second(), UUID(int=0)]
    for id_ in ahead:
        later = [after for _ in range(100) if (after := uuid7_after(id_))]
        assert min(later) > id_
        assert len(set(later)) == 100
        assert {(one.version, one.variant) for one in later} == {(7, RFC_4122)}
