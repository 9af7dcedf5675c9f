"""Whoever must end early hears the signal first; whoever listened before still hears it."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from app.kit.shutdown import on_shutdown


@pytest.fixture
def heard_before() -> Iterator[list[int]]:
    """Signals, as they reach the handler that was there before."""
    heard: list[int] = []
    previous = {n: signal.signal(n, lambda n, _: heard.append(n)) for n in (signal.SIGTERM, signal.SIGINT)}
    yield heard
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_hear_the_signal(heard_before: list[int], number: signal.Signals) -> None:
    heard = asyncio.Event()
    with on_shutdown(heard.set):
        signal.raise_signal(number)
        async with asyncio.timeout(60):
            await heard.wait()
    assert heard_before == [number]


async def test_afterwards_all_is_as_before(heard_before: list[int]) -> None:
    heard = asyncio.Event()
    with on_shutdown(heard.set):
        pass
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0)
    assert heard_before == [signal.SIGTERM]
    assert not heard.is_set()


async def test_in_another_thread_nobody_can_listen_and_nothing_breaks() -> None:
    async def elsewhere() -> bool:
        with on_shutdown(lambda: None):
            return True

    assert await asyncio.to_thread(asyncio.run, elsewhere())
