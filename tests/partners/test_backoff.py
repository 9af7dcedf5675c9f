"""When a message is sent again, whatever a receiver asks for."""

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.kit.clock import now
from app.partners.outbound.backoff import due_again

_LONGEST = timedelta(hours=12)
_NUMBERS = st.integers(-(10**25), 10**25)
_DATES = st.builds(
    "{}, {:02} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Fri", ""]),
    _NUMBERS,
    st.sampled_from(["Jan", "Feb", "Foo"]),
    st.one_of(st.sampled_from([0, 1, 9999, 10000, 99999999999]), _NUMBERS),
    st.integers(-1, 25),
    st.integers(0, 60),
    _NUMBERS,
    st.one_of(st.sampled_from(["GMT", "", "+2359", "-2359", "+99999999999"]), _NUMBERS.map("{:+}".format)),
)


@given(st.one_of(st.none(), st.text(max_size=100), _NUMBERS.map(str), _DATES), st.integers(1, 50))
@example("Mon, 01 Jan 99999999999 00:00:00 GMT", 1)
@example("Mon, 01 Jan 2100 00:00:00 +99999999999", 1)
@example("Mon, 01 Jan 9999 23:59:59 -2359", 1)
@example("Mon, 01 Jan 0001 00:00:00 +2359", 1)
@example("9" * 5000, 1)
@example("Mon, 01 Jan " + "9" * 5000 + " 00:00:00 GMT", 1)
def test_whatever_a_receiver_asks_for_the_pause_is_bounded(asked: str | None, count: int) -> None:
    moment = now()
    pause = due_again(moment, count, asked) - moment
    assert timedelta(seconds=4) <= pause <= _LONGEST * 1.2


@pytest.mark.parametrize("asked", ["60", " 60 ", "000000000000060"])
def test_a_number_of_seconds_is_waited(asked: str) -> None:
    moment = now()
    assert due_again(moment, 1, asked) - moment == timedelta(seconds=60)
