"""A loop's pause ends when its event is set, and no later than its seconds."""

import asyncio

from app.kit.waiting import wait_for_event


async def test_an_event_that_is_set_is_not_waited_for() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_for_event(event, 60)
    assert await wait_for_event(event, 60)


async def test_a_pause_is_over_when_its_seconds_are() -> None:
    assert not await wait_for_event(asyncio.Event(), 0.01)
