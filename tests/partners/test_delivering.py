"""Webhooks that go out: at least once, signed, in order where order counts, whatever the receiver does."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import httpx
import pytest
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.kit.clock import now
from app.kit.database.session import Database
from app.partners.outbound.backoff import due_again
from app.partners.retention import forget_webhooks
from app.settings import Settings
from tests.support.databases import run, wait_until
from tests.support.time_travel import make_messages_due
from tests.support.webhooks import (
    OK,
    ReceivedWebhook,
    ResponseBytes,
    attempts,
    delivering,
    http_response,
    insert_endpoint,
    insert_messages,
    receiving,
    responses_in_turn,
    wait_for_attempts,
)

Headers = dict[str, str]
URL = "/v1/organizations/movement/webhook-endpoints"
NONE_DUE = "SELECT count(*) = 0 FROM webhook_messages WHERE state = 'due'"


async def states(database: Database) -> Counter[str]:
    return Counter(row[0] for row in await run(database, "SELECT state FROM webhook_messages"))


async def test_what_is_asked_for_over_http_arrives_and_verifies(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    async with receiving() as receiver, delivering(settings):
        body = {"url": receiver.url("/in?a=b"), "types": ["petition.published"]}
        made = (await client.post(URL, json=body, headers=owner)).json()
        one = f"{URL}/{made['id']}"
        message = (await client.post(f"{one}/test", headers=owner)).json()
        (got,) = await receiver.arrived(1)
        await wait_until(database, NONE_DUE)
    assert got.line == "POST /in?a=b HTTP/1.1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("Multitude")
    assert got.id == message["webhook_id"] == f"msg_{message['id']}"
    said = Webhook(made["secret"]).verify(got.body, got.headers)
    assert (said["type"], set(said)) == ("webhook.test", {"type", "timestamp", "data"})
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(got.body + b" ", got.headers)
    (shown,) = (await client.get(f"{one}/messages", headers=owner)).json()["items"]
    assert (shown["state"], shown["attempt_count"], shown["due_at"]) == ("delivered", 1, None)
    (tried,) = (await client.get(f"{one}/messages/{shown['id']}/attempts", headers=owner)).json()["items"]
    assert (tried["status_code"], tried["error"], tried["answer"]) == (200, None, "ok")
    assert b"ok" not in (await run(database, "SELECT answer FROM delivery_attempts"))[0][0]


async def test_a_former_secret_signs_beside_the_new_one_for_a_day(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    async with receiving() as receiver, delivering(settings):
        body = {"url": receiver.url(), "types": ["petition.published"]}
        made = (await client.post(URL, json=body, headers=owner)).json()
        one = f"{URL}/{made['id']}"
        renewed = await client.post(f"{one}/secrets", headers=owner)
        assert renewed.headers["cache-control"] == "no-store"
        new = renewed.json()["secret"]
        await client.post(f"{one}/test", headers=owner)
        (got,) = await receiver.arrived(1)
    for secret in (made["secret"], new):
        Webhook(secret).verify(got.body, got.headers)
    newest = {**got.headers, "webhook-signature": got.headers["webhook-signature"].split(" ")[0]}
    Webhook(new).verify(got.body, newest)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(got.body, newest)


async def test_500_and_then_200_is_delivered_under_the_same_id(database: Database, settings: Settings) -> None:
    async with (
        receiving(responses_in_turn(http_response(500, b"no"), http_response(503))) as receiver,
        delivering(settings),
    ):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        (webhook_id,) = await insert_messages(database, endpoint_id)
        for count in (1, 2):
            await wait_for_attempts(database, count)
            # It waits: nothing else comes before it is due again.
            assert await states(database) == {"due": 1}
            assert (await run(database, "SELECT due_at > now() + interval '3 s' FROM webhook_messages"))[0][0]
            await make_messages_due(database)
        await wait_until(database, NONE_DUE)
        assert receiver.ids() == [webhook_id] * 3
    assert await attempts(database) == [(500, "status"), (503, "status"), (200, None)]
    assert await states(database) == {"delivered": 1}
    rows = await run(database, "SELECT failing_since, failure_count FROM webhook_endpoints")
    assert tuple(rows[0]) == (None, 0)


async def test_a_redirect_and_a_receiver_that_is_gone_or_silent_are_failures(
    database: Database, settings: Settings
) -> None:
    async with (
        receiving() as other,
        receiving(responses_in_turn(http_response(302, b"", f"Location: {other.url()}"))) as receiver,
    ):
        moved = await insert_endpoint(database, settings, receiver.url())
        async with receiving() as gone:
            dead = await insert_endpoint(database, settings, gone.url())
        async with receiving(lambda _received: None) as silent:
            slow = await insert_endpoint(database, settings, silent.url())
            for endpoint_id in (moved, dead, slow):
                await insert_messages(database, endpoint_id)
            async with delivering(settings, webhook_timeout_seconds=0.3):
                await wait_for_attempts(database, 3)
        assert other.received == []
    assert sorted(await attempts(database), key=str) == [(302, "redirect"), (None, "connection"), (None, "timeout")]
    assert await states(database) == {"due": 3}


async def test_what_was_not_taken_for_three_days_is_dead_and_can_be_replayed(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    before = REGISTRY.get_sample_value("multitude_deliveries_total", {"end": "dead"}) or 0
    async with receiving(responses_in_turn(http_response(500), http_response(500))) as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        (webhook_id,) = await insert_messages(database, endpoint_id)
        await wait_for_attempts(database, 1)
        await run(database, "UPDATE webhook_messages SET retried_until = now() + interval '1 s'")
        await make_messages_due(database)
        await wait_until(database, NONE_DUE)
        assert await states(database) == {"dead": 1}
        assert REGISTRY.get_sample_value("multitude_deliveries_total", {"end": "dead"}) == before + 1
        url = f"{URL}/{endpoint_id}/messages/{webhook_id}/replay"
        replayed = (await client.post(url, headers=owner)).json()
        assert (replayed["state"], replayed["attempt_count"]) == ("due", 0)
        await wait_until(database, NONE_DUE)
        assert await states(database) == {"delivered": 1}
        # What was delivered can be replayed as well.
        await client.post(url, headers=owner)
        await receiver.arrived(4)
        await wait_until(database, NONE_DUE)
        assert receiver.ids() == [webhook_id] * 4
    rows = await run(database, "SELECT retried_until > now() + interval '71 hours' FROM webhook_messages")
    assert rows[0][0]


async def test_410_disables_the_endpoint_and_nothing_else_is_sent(database: Database, settings: Settings) -> None:
    async with receiving(lambda _received: http_response(410)) as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        await insert_messages(database, endpoint_id, 5, "person.erased")
        await wait_until(database, NONE_DUE)
        assert len(receiver.received) == 1
    assert await states(database) == {"dead": 5}
    rows = await run(database, "SELECT state, state_reason FROM webhook_endpoints")
    assert tuple(rows[0]) == ("disabled", "gone")


async def test_where_order_counts_what_is_behind_waits(database: Database, settings: Settings) -> None:
    failing: set[str] = set()
    async with receiving() as receiver, delivering(settings):
        receiver.say = lambda got: http_response(500) if got.id in failing else OK
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        await run(database, "UPDATE webhook_endpoints SET state = 'paused'")
        ordered = [
            *await insert_messages(database, endpoint_id, 2, "person.erased"),
            *await insert_messages(database, endpoint_id, 3, "person.erased"),
        ]
        failing.add(ordered[2])
        free = await insert_messages(database, endpoint_id, 2)
        await run(database, "UPDATE webhook_endpoints SET state = 'active'")
        await wait_for_attempts(database, 5)
        # Twice more it is not taken; what order does not bind passes all the while.
        for count in (6, 7):
            await make_messages_due(database)
            await wait_for_attempts(database, count)
        (later,) = await insert_messages(database, endpoint_id)
        await receiver.arrived(8)
        assert [id_ for id_ in receiver.ids() if id_ in ordered] == [*ordered[:3], ordered[2], ordered[2]]
        assert set(receiver.ids()) == {*ordered[:3], *free, later}
        failing.clear()
        await make_messages_due(database)
        await wait_until(database, NONE_DUE)
        assert [id_ for id_ in receiver.ids() if id_ in ordered][5:] == ordered[2:]


async def test_a_dead_message_lets_those_behind_it_pass(database: Database, settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        await run(database, "UPDATE webhook_endpoints SET state = 'paused'")
        first, *others = await insert_messages(database, endpoint_id, 4, "person.erased")
        await run(database, "UPDATE webhook_messages SET retried_until = now() WHERE id = :id", id=UUID(first[4:]))
        receiver.say = lambda got: http_response(500) if got.id == first else OK
        await run(database, "UPDATE webhook_endpoints SET state = 'active'")
        await wait_until(database, NONE_DUE)
        assert receiver.ids() == [first, *others]
    assert await states(database) == {"dead": 1, "delivered": 3}


async def test_one_endpoint_that_hangs_delays_nobody(database: Database, settings: Settings) -> None:
    let_go = asyncio.Event()

    async def hang(_received: ReceivedWebhook) -> ResponseBytes:
        await let_go.wait()
        return OK

    async with (
        receiving(hang) as slow,
        receiving() as fast,
        delivering(settings, webhook_connections=10, webhook_timeout_seconds=30.0),
    ):
        hanging = await insert_endpoint(database, settings, slow.url())
        await insert_messages(database, hanging, 50)
        await slow.arrived(1)
        other = await insert_endpoint(database, settings, fast.url())
        await insert_messages(database, other, 100)
        await fast.arrived(100)
        assert set(await attempts(database)) == {(200, None)}
        # It holds no more than its own share of the connections.
        assert slow.connections == len(slow.received) == 1
        let_go.set()


async def test_two_workers_share_the_endpoints_and_keep_the_order(database: Database, settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings), delivering(settings):
        planted = []
        for number in range(6):
            endpoint_id = await insert_endpoint(database, settings, receiver.url(f"/{number}"))
            planted.append(await insert_messages(database, endpoint_id, 40, "person.erased"))
        await wait_until(database, NONE_DUE)
    by_path: dict[str, list[str]] = {}
    for got in receiver.received:
        by_path.setdefault(got.line, []).append(got.id)
    assert [by_path[f"POST /{number} HTTP/1.1"] for number in range(6)] == planted


async def test_a_receiver_that_dies_with_a_message_gets_it_again(database: Database, settings: Settings) -> None:
    async with receiving() as receiver:

        def die(_received: ReceivedWebhook) -> ResponseBytes:
            receiver.say = lambda _received: OK
            receiver.hang_up()
            return None

        receiver.say = die
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        (webhook_id,) = await insert_messages(database, endpoint_id)
        async with delivering(settings):
            await wait_for_attempts(database, 1)
            await make_messages_due(database)
            await wait_until(database, NONE_DUE)
        assert receiver.ids() == [webhook_id] * 2
    assert await attempts(database) == [(None, "connection"), (200, None)]


async def test_a_name_that_has_become_private_is_not_called(database: Database, settings: Settings) -> None:
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["192.168.0.1"]

    async with receiving() as receiver, delivering(settings, resolver=resolve, public_url="https://m.example.org"):
        endpoint_id = await insert_endpoint(database, settings, receiver.url(host="hooks.example.org", scheme="https"))
        here = await insert_endpoint(database, settings, receiver.url())
        for each in (endpoint_id, here):
            await insert_messages(database, each)
        await wait_for_attempts(database, 2)
        assert (asked, receiver.connections) == (["hooks.example.org"], 0)
    assert await attempts(database) == [(None, "refused-target")] * 2


async def test_what_has_nothing_left_to_tell_is_void_and_not_sent(database: Database, settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        nothing = {"petition_id": str(endpoint_id), "at": None}
        await insert_messages(database, endpoint_id, 1, "petition.published", nothing)
        # What cannot be written costs its neighbours nothing.
        await insert_messages(database, endpoint_id, 1, "petition.published", {"petition_id": 4})
        await insert_messages(database, endpoint_id)
        await wait_for_attempts(database, 2)
        await wait_until(database, "SELECT count(*) = 1 FROM webhook_messages WHERE state = 'void'")
        assert len(receiver.received) == 1
    assert await states(database) == {"void": 1, "delivered": 1, "due": 1}
    assert set(await attempts(database)) == {(200, None), (None, "unwritable")}


async def test_what_waited_through_a_long_pause_is_tried_for_three_days_more(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    async with receiving(responses_in_turn(*[http_response(503)] * 3)) as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        url = f"{URL}/{endpoint_id}"
        await client.patch(url, json={"state": "paused"}, headers=owner)
        planted = [
            *await insert_messages(database, endpoint_id, 2),
            *await insert_messages(database, endpoint_id, 2, "person.erased"),
        ]
        aged = (
            "UPDATE webhook_messages SET {0} = {0} - interval '10 days', due_at = due_at - interval '10 days',"
            " retried_until = retried_until - interval '10 days', attempt_count = 9"
        )
        await run(database, aged.format("created_at"))
        await client.patch(url, json={"state": "active"}, headers=owner)
        await wait_for_attempts(database, 3)
        assert await states(database) == {"due": 4}
        # It is tried again soon, as what has failed for the first time is.
        soon = "SELECT bool_and(due_at < now() + interval '7 s') FROM webhook_messages"
        assert (await run(database, soon))[0][0]
        await make_messages_due(database)
        await wait_until(database, NONE_DUE)
        assert await states(database) == {"delivered": 4}
        assert set(receiver.ids()) == set(planted)
    # Only until then.
    await run(database, "UPDATE webhook_endpoints SET activated_at = now() - interval '4 days', leased_until = NULL")
    await run(database, "UPDATE webhook_messages SET state = 'due'")
    async with receiving(lambda _received: http_response(500)) as receiver, delivering(settings):
        moved = {"url": receiver.url()}
        assert (await client.patch(url, json=moved, headers=owner)).status_code == 200
        await wait_until(database, NONE_DUE)
    assert await states(database) == {"dead": 4}


async def test_what_waits_for_a_paused_endpoint_is_sent_when_it_is_activated(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    async with receiving() as receiver, receiving() as other, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        url = f"{URL}/{endpoint_id}"
        await client.patch(url, json={"state": "paused"}, headers=owner)
        await insert_messages(database, endpoint_id, 2)
        await insert_messages(database, await insert_endpoint(database, settings, other.url()), 1)
        await other.arrived(1)
        assert receiver.received == []
        await client.patch(url, json={"state": "active"}, headers=owner)
        await receiver.arrived(2)


async def test_a_worker_that_ends_lets_go_of_what_it_holds(database: Database, settings: Settings) -> None:
    async with receiving() as receiver:
        await insert_messages(database, await insert_endpoint(database, settings, receiver.url()), 1)
        async with delivering(settings):
            await receiver.arrived(1)
    assert (await run(database, "SELECT leased_until <= now() FROM webhook_endpoints"))[0][0]
    assert await states(database) == {"delivered": 1}


def test_it_is_tried_again_soon_then_seldom_and_as_late_as_the_receiver_asks() -> None:
    moment = now()

    def seconds(count: int, retry_after: str | None = None) -> float:
        return (due_again(moment, count, retry_after) - moment).total_seconds()

    for count, delay in ((1, 5), (2, 30), (3, 120), (10, 43_200), (50, 43_200)):
        assert 0.8 * delay <= seconds(count) <= 1.2 * delay
    assert len({seconds(3) for _ in range(20)}) > 1
    assert seconds(1, "60") == 60
    assert seconds(10, "60") > 30_000
    assert seconds(1, "999999999999") == 43_200
    assert 4 <= seconds(1, "Mon, 01 Jan 2001 00:00:00 GMT") <= 6
    assert seconds(1, "Fri, 01 Jan 2100 00:00:00 GMT") == 43_200
    for nonsense in ("", "soon", "-5", "\u0661\u0662", "1e9", "Mon, 99 Foo"):
        assert 4 <= seconds(1, nonsense) <= 6


async def test_retry_after_is_honoured(database: Database, settings: Settings) -> None:
    async with (
        receiving(responses_in_turn(http_response(429, b"", "Retry-After: 3600"))) as receiver,
        delivering(settings),
    ):
        await insert_messages(database, await insert_endpoint(database, settings, receiver.url()))
        await wait_for_attempts(database, 1)
    assert (await run(database, "SELECT due_at > now() + interval '3500 s' FROM webhook_messages"))[0][0]


async def test_what_is_replayed_has_its_three_days_however_old_it_is(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, "http://127.0.0.1:9/")
    replayed, old = await insert_messages(database, endpoint_id, 2)
    aged = "UPDATE webhook_messages SET {0} = {0} - interval '29 days', due_at = due_at - interval '29 days'"
    await run(database, aged.format("created_at"))
    answered = await client.post(f"{URL}/{endpoint_id}/messages/{replayed}/replay", headers=owner)
    assert answered.status_code == 200
    for column in ("created_at", "due_at"):
        await run(database, f"UPDATE webhook_messages SET {column} = {column} - interval '2 days'")
    async with database.transaction() as session:
        assert [f"msg_{id_}" for id_ in await forget_webhooks(session)] == [old]


async def test_what_was_sent_long_ago_is_forgotten(database: Database, settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings):
        await insert_messages(database, await insert_endpoint(database, settings, receiver.url()), 3)
        await wait_until(database, NONE_DUE)
    old = (
        "UPDATE webhook_messages SET created_at = created_at - interval '31 days', due_at = due_at - interval '31 days'"
        " WHERE id IN ({})"
    )
    await run(database, old.format("SELECT id FROM webhook_messages ORDER BY id LIMIT 2"))
    async with database.transaction() as session:
        assert len(await forget_webhooks(session)) == 2
    for table in ("webhook_messages", "delivery_attempts"):
        assert len(await run(database, f"SELECT id FROM {table}")) == 1
