"""Delivering while something of ours is broken: nothing is lost, and nobody is called again and again."""

import asyncio
from collections.abc import Mapping
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.kit.webhooks.client import Response, WebhookClient
from app.kit.webhooks.egress import EgressPolicy, SystemResolver
from app.partners.outbound.delivery.worker import DeliveryWorker
from app.settings import Settings
from tests.support.databases import run, wait_until
from tests.support.time_travel import make_messages_due
from tests.support.webhooks import (
    OK,
    TYPES,
    ReceivedWebhook,
    ResponseBytes,
    delivering,
    insert_endpoint,
    insert_messages,
    receiving,
    wait_for_attempts,
)

RESTS = (
    "SELECT bool_and(coalesce(leased_until BETWEEN now() + interval '5 s' AND now() + interval '31 s', false))"
    " FROM webhook_endpoints"
)


class Broken(WebhookClient):
    """What posts, if it did not fail in a way nobody has thought of."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(EgressPolicy(SystemResolver()), settings.webhook_timeout_seconds)
        self.count = 0

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        del url, headers, body
        self.count += 1
        raise ZeroDivisionError


async def test_what_fails_in_an_unknown_way_is_a_failure_like_others(database: Database, settings: Settings) -> None:
    endpoint_id = await insert_endpoint(database, settings, "https://hooks.example.org/")
    await insert_messages(database, endpoint_id)
    await insert_messages(database, endpoint_id, 2, "person.erased")
    outgoing, ending = Broken(settings), asyncio.Event()
    with capture_logs() as logs:
        task = asyncio.create_task(DeliveryWorker(database, settings, TYPES, outgoing).run(ending, 0.01))
        await wait_for_attempts(database, 2)
        await wait_until(database, "SELECT count(*) = 1 FROM webhook_endpoints WHERE leased_until <= now()")
        ending.set()
        await task
    # One of those whose order counts, and the other one; neither comes again at once.
    assert outgoing.count == 2
    rows = await run(database, "SELECT DISTINCT error, status_code FROM delivery_attempts")
    assert [tuple(row) for row in rows] == [("failed", None)]
    due = (
        "SELECT bool_and(due_at > now() + interval '2 s') FROM webhook_messages WHERE attempt_count = 1 AND NOT ordered"
    )
    assert (await run(database, due))[0][0]
    (endpoint,) = await run(database, "SELECT failure_count, ordered_due_at > now() FROM webhook_endpoints")
    assert tuple(endpoint) == (2, True)
    assert {log["endpoint_id"] for log in logs if log["event"] == "webhook cannot be sent"} == {str(endpoint_id)}


async def test_what_cannot_be_recorded_is_not_sent_again_at_once(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.partners.outbound.delivery.sending.RECORD_TIMEOUT", 0.1)
    await run(database, "ALTER TABLE delivery_attempts ADD CONSTRAINT ck_test CHECK (false) NOT VALID")
    try:
        async with receiving() as receiver, delivering(settings):
            await insert_messages(
                database, await insert_endpoint(database, settings, receiver.url()), 3, "person.erased"
            )
            await wait_until(database, RESTS)
            other = await insert_endpoint(database, settings, receiver.url("/other"))
            await insert_messages(database, other)
            await wait_until(database, RESTS)
            assert len(receiver.received) == 2
    finally:
        await run(database, "ALTER TABLE delivery_attempts DROP CONSTRAINT ck_test")
    async with receiving() as receiver, delivering(settings):
        await run(database, "UPDATE webhook_endpoints SET leased_until = now()")
        await run(database, "DELETE FROM webhook_messages WHERE endpoint_id <> :id", id=other)
        await wait_until(database, "SELECT count(*) > 0 FROM delivery_attempts")


async def test_what_a_later_version_has_made_waits_for_it(database: Database, settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        (unknown,) = await insert_messages(database, endpoint_id, 1, "event.held")
        await wait_for_attempts(database, 1)
        await run(database, "UPDATE webhook_messages SET type = 'webhook.test' WHERE id = :id", id=UUID(unknown[4:]))
        await make_messages_due(database)
        await receiver.arrived(1)
        await wait_for_attempts(database, 2)
    rows = await run(database, "SELECT error FROM delivery_attempts ORDER BY attempted_at")
    assert [row[0] for row in rows] == ["unwritable", None]


async def test_a_claim_that_fails_is_not_tried_again_and_again(database: Database, settings: Settings) -> None:
    let_go = asyncio.Event()

    async def hang(_received: ReceivedWebhook) -> ResponseBytes:
        await let_go.wait()
        return OK

    async with receiving(hang) as receiver:
        await insert_messages(database, await insert_endpoint(database, settings, receiver.url()))
        with capture_logs() as logs:
            async with delivering(settings, sweep_seconds=3600.0):
                await receiver.arrived(1)
                rename = "ALTER TABLE webhook_endpoints RENAME COLUMN leased_until TO lost"
                await run(database, rename)
                try:
                    let_go.set()
                    await wait_for_attempts(database, 1)
                    for _ in range(200):
                        await run(database, "SELECT 1")
                finally:
                    await run(database, "ALTER TABLE webhook_endpoints RENAME COLUMN lost TO leased_until")
    # The claim, and letting go at the end.
    assert 1 <= len([log for log in logs if log["event"] == "delivering failed"]) <= 2


async def test_a_worker_that_ends_does_not_wait_for_who_is_slow(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.partners.outbound.delivery.worker._DRAIN_TIMEOUT", 0.05)
    async with receiving(lambda _received: None) as receiver:
        await insert_messages(database, await insert_endpoint(database, settings, receiver.url()))
        async with asyncio.timeout(20), delivering(settings, webhook_timeout_seconds=60.0):
            await receiver.arrived(1)
    rows = await run(
        database,
        "SELECT m.state, m.attempt_count, e.leased_until <= now() FROM webhook_messages m, webhook_endpoints e",
    )
    assert [tuple(row) for row in rows] == [("due", 0, True)]


async def test_nothing_is_posted_when_the_hold_is_nearly_over(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Writing takes longer than there is for it.
    monkeypatch.setattr("app.partners.outbound.delivery.worker._POSTING", -15.0)
    async with receiving() as receiver:
        await insert_messages(database, await insert_endpoint(database, settings, receiver.url()))
        async with delivering(settings):
            await wait_until(database, "SELECT bool_and(leased_until <= now()) FROM webhook_endpoints")
        assert receiver.received == []
