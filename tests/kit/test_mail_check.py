"""The look at the mail server when the worker starts."""

import asyncio
from math import inf

import pytest

from app.kit.mail.check import check_transport
from app.kit.mail.message import Mail
from app.kit.mail.outcome import SENT, SendResult


class SlowTransport:
    """A mail server that never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def check(self) -> str | None:
        self.asked.set()
        await asyncio.Event().wait()
        return None

    async def send(self, mail: Mail, begin_before: float = inf) -> SendResult:  # noqa: ARG002
        return SENT

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_check_that_is_cancelled_leaves_no_task_behind() -> None:
    transport, before = SlowTransport(), asyncio.all_tasks()
    checking = asyncio.create_task(check_transport(transport, asyncio.Event()))
    await transport.asked.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert asyncio.all_tasks() == before
