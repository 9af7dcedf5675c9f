"""Whether webhooks may go to this very machine: only where that was said and nobody else is served, at both doors."""

from typing import Any

import httpx
import pytest

from app.kit.database.session import Database
from app.kit.webhooks.egress import EgressPolicy, SystemResolver
from app.settings import Settings
from tests.support.databases import run
from tests.support.webhooks import attempts, delivering, insert_endpoint, insert_messages, receiving, wait_for_attempts

URL = "/v1/organizations/movement/webhook-endpoints"
REFUSED = pytest.mark.parametrize(
    "more",
    [{"webhook_loopback": False}, {"public_url": "https://movement.example"}],
    ids=["it was not said", "others are served"],
)


@REFUSED
async def test_the_worker_calls_nobody_on_its_own_machine(
    database: Database, settings: Settings, more: dict[str, object]
) -> None:
    async with receiving() as receiver, delivering(settings, **more):
        for scheme in ("http", "https"):
            url = receiver.url(scheme=scheme)
            await insert_messages(database, await insert_endpoint(database, settings, url))
        await wait_for_attempts(database, 2)
        assert receiver.connections == 0
    assert await attempts(database) == [(None, "refused-target")] * 2


@REFUSED
async def test_no_endpoint_is_made_on_this_machine(
    served: Any, owner: dict[str, str], database: Database, settings: Settings, more: dict[str, object]
) -> None:
    chosen = settings.model_copy(update=more)
    policy = EgressPolicy(SystemResolver(), loopback=chosen.may_call_loopback)
    served.api.state.services = served.api.state.services.with_service(policy)
    for url, slug in (("http://127.0.0.1:9/", "target-invalid"), ("https://127.0.0.1:9/", "target-refused")):
        body = {"url": url, "types": ["petition.published"]}
        refused = await served.client.post(URL, json=body, headers=owner)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (422, slug)
    assert not await run(database, "SELECT id FROM webhook_endpoints")


async def test_an_endpoint_on_this_machine_is_for_development(client: httpx.AsyncClient, owner: dict[str, str]) -> None:
    body = {"url": "http://127.0.0.1:9/", "types": ["petition.published"]}
    assert (await client.post(URL, json=body, headers=owner)).status_code == 201


async def test_a_receiver_that_says_too_much_gets_every_message_once(database: Database, settings: Settings) -> None:
    said = b"HTTP/1.1 204 No Content\r\n\r\nok"
    async with receiving(lambda _received: said) as receiver, delivering(settings):
        endpoint_id = await insert_endpoint(database, settings, receiver.url())
        planted = await insert_messages(database, endpoint_id, 20, "person.erased")
        planted += await insert_messages(database, endpoint_id, 20)
        await wait_for_attempts(database, 40)
        assert sorted(receiver.ids()) == sorted(planted)
    assert await attempts(database) == [(204, None)] * 40
