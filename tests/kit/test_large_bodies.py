"""Large bodies: what is held is bounded, and nobody holds it for long by saying nothing."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.requests import Request

from app.kit.database.group_commit import QueueFull
from app.kit.web import large_bodies
from app.kit.web.bodies import TooSlow
from app.kit.web.large_bodies import SMALL, LargeBodies

MEBIBYTE = 1024 * 1024


def _request(*parts: bytes, then: Callable[[], Any]) -> Request:
    """Sends these parts, and then waits for what will not come."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if not left:
            await then()
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    return Request({"type": "http", "headers": []}, receive)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bodies, "_PORTION_TIMEOUT", 0.05)


@pytest.mark.usefixtures("quick")
async def test_who_sends_much_and_then_nothing_is_dropped_soon() -> None:
    bodies, never = LargeBodies(MEBIBYTE, 8 * MEBIBYTE), asyncio.Event()
    with bodies.reserve() as share, pytest.raises(TooSlow):
        async with asyncio.timeout(60):
            await bodies.read(_request(bytes(MEBIBYTE // 2), then=never.wait), share)
    assert bodies.reserved == 0


@pytest.mark.usefixtures("quick")
async def test_who_sends_little_has_time() -> None:
    bodies, never = LargeBodies(MEBIBYTE, 8 * MEBIBYTE), asyncio.Event()
    with bodies.reserve() as share:
        reading = asyncio.create_task(bodies.read(_request(bytes(1024), then=never.wait), share))
        done, _ = await asyncio.wait([reading], timeout=0.5)
        assert not done
        reading.cancel()


def test_one_sender_has_a_quarter_of_the_room_and_all_have_the_whole() -> None:
    bodies = LargeBodies(MEBIBYTE, 8 * MEBIBYTE)
    with ExitStack() as stack:
        for sender in range(4):
            share = stack.enter_context(bodies.reserve())
            share.assign_to(sender)
            share.take(2 * MEBIBYTE + SMALL)
            with pytest.raises(QueueFull):
                share.take(1)
        share = stack.enter_context(bodies.reserve())
        share.assign_to("a fifth")
        share.take(SMALL)
        with pytest.raises(QueueFull):
            share.take(1)
    assert bodies.reserved == 0
