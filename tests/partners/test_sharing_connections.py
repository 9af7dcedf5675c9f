"""The connections of a worker go round: neither who is slow, nor who has much to be told, nor who fails takes all."""

import asyncio

import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import run, wait_until
from tests.support.webhooks import (
    OK,
    ReceivedWebhook,
    ResponseBytes,
    delivering,
    http_response,
    insert_endpoint,
    insert_messages,
    receiving,
    wait_for_attempts,
)


class Gate:
    """Whoever comes waits, until it is opened for one or for all."""

    def __init__(self) -> None:
        self._left = asyncio.Semaphore(0)

    async def pass_(self, _received: ReceivedWebhook) -> ResponseBytes:
        await self._left.acquire()
        return OK

    def open(self, count: int) -> None:
        for _ in range(count):
            self._left.release()


async def plant_many(database: Database, settings: Settings, url: str, count: int, each: int) -> None:
    for _ in range(count):
        await insert_messages(database, await insert_endpoint(database, settings, url), each)


async def test_many_slow_endpoints_leave_a_connection_to_a_fast_one(database: Database, settings: Settings) -> None:
    gate = Gate()
    async with receiving(gate.pass_) as slow, receiving() as fast:
        await plant_many(database, settings, slow.url(), 10, 20)
        last = await insert_endpoint(database, settings, fast.url())
        async with delivering(settings, webhook_connections=40, webhook_timeout_seconds=30.0):
            # Half of all, and a first one for each.
            await slow.arrived(30)
            await insert_messages(database, last, 20)
            await fast.arrived(20)
            assert len(slow.received) == 30
            gate.open(1000)


async def test_when_there_are_more_endpoints_than_connections_each_has_its_turn(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.partners.outbound.delivery.worker._SLICE", 0.0)
    gate = Gate()
    async with receiving(gate.pass_) as slow, receiving() as fast:
        await plant_many(database, settings, slow.url(), 9, 5)
        last = await insert_endpoint(database, settings, fast.url())
        async with delivering(settings, webhook_connections=10, webhook_timeout_seconds=30.0):
            await slow.arrived(9)
            await insert_messages(database, last)
            gate.open(1)
            await fast.arrived(1)
            gate.open(1000)
            await wait_until(database, "SELECT bool_and(state = 'delivered') FROM webhook_messages")


async def test_those_that_fail_have_their_turn_however_busy_the_others_are(
    database: Database, settings: Settings
) -> None:
    gate = Gate()
    async with receiving(gate.pass_) as busy, receiving() as failing:
        bad = await insert_endpoint(database, settings, failing.url())
        await run(database, "UPDATE webhook_endpoints SET failing_since = now(), failure_count = 1")
        await plant_many(database, settings, busy.url(), 12, 5)
        async with delivering(settings, webhook_connections=10, webhook_timeout_seconds=30.0):
            await busy.arrived(9)
            await insert_messages(database, bad)
            await failing.arrived(1)
            gate.open(1000)


async def test_with_one_connection_both_kinds_have_their_turn(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.partners.outbound.delivery.worker._SLICE", 0.0)
    async with receiving() as good, receiving(lambda _received: http_response(500)) as bad:
        await insert_messages(database, await insert_endpoint(database, settings, bad.url()), 2)
        await run(database, "UPDATE webhook_endpoints SET failing_since = now(), failure_count = 1")
        await insert_messages(database, await insert_endpoint(database, settings, good.url()), 40)
        async with delivering(settings, webhook_connections=1):
            await bad.arrived(2)
            assert len(good.received) < 40
            await good.arrived(40)
            await wait_for_attempts(database, 42)
