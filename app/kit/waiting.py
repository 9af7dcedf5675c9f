"""Waiting for an event, but no longer than so many seconds: how every background loop pauses between two rounds."""

import asyncio


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Return as soon as the event is set, or when the seconds are over; whether it was set in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
