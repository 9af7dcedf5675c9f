"""Endpoints: set up, looked at, changed and ended by the organization itself and by owners, and by nobody else."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.database.session import Database
from app.kit.webhooks.egress import EgressPolicy
from app.partners.outbound.endpoints.cleanup import BATCH, clear_endpoints
from app.partners.outbound.endpoints.service import MOST
from app.settings import Settings
from tests.support import second_person
from tests.support.databases import run
from tests.support.partners import SLUG, Partner
from tests.support.types import Headers
from tests.support.webhooks import TYPES, insert_endpoint, insert_messages

URL = f"/v1/organizations/{SLUG}/webhook-endpoints"
HOOK = "https://hooks.example.org/multitude?token=secret-9"
BODY = {"url": HOOK, "types": ["petition.published"], "label": "our CRM"}

ADDRESSES = {
    "hooks.example.org": ["1.1.1.1"],
    "both.example.org": ["1.1.1.1", "10.0.0.1"],
    "inside.example.org": ["192.168.0.9"],
    "localhost": ["127.0.0.1"],
}


async def resolve(host: str, port: int) -> Sequence[str]:
    if host == "slow.example.org":
        await asyncio.Event().wait()
    if host not in ADDRESSES:
        raise OSError
    return ADDRESSES[host]


@pytest.fixture(autouse=True)
def known(served: Any) -> None:
    """A network in which these names are known, and this machine is not to be called."""
    served.api.state.services = served.api.state.services.with_service(EgressPolicy(resolve))


async def make(client: httpx.AsyncClient, key: Headers, **more: object) -> httpx.Response:
    return await client.post(URL, json={**BODY, **more}, headers=key)


async def test_an_endpoint_is_made_and_its_secret_shown_once(
    client: httpx.AsyncClient, partner: Headers, database: Database
) -> None:
    made = await make(client, partner, contact="ops@example.org", contact_locale="fr")
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    secret = made.json().pop("secret")
    assert secret.startswith("whsec_")
    shown = (await client.get(f"{URL}/{made.json()['id']}", headers=partner)).json()
    assert shown == {name: value for name, value in made.json().items() if name != "secret"}
    assert (shown["url"], shown["contact"], shown["state"]) == (HOOK, "ops@example.org", "active")
    assert (await client.get(URL, headers=partner)).json()["items"] == [shown]
    stored = str(await run(database, "SELECT webhook_endpoints::text FROM webhook_endpoints"))
    for said in ("hooks.example.org", "secret-9", "ops@", secret):
        assert said not in stored


async def test_owners_act_for_everybody_and_the_movement_has_endpoints_too(
    client: httpx.AsyncClient, partner: Headers, owner: Headers
) -> None:
    id_ = (await make(client, owner)).json()["id"]
    assert (await client.get(f"{URL}/{id_}", headers=partner)).status_code == 200
    own = await client.post(URL.replace(SLUG, "movement"), json=BODY, headers=owner)
    assert own.status_code == 201


async def test_a_partner_can_neither_see_nor_touch_anothers_endpoints(
    client: httpx.AsyncClient,
    partner: Headers,
    stranger: Headers,
    owner: Headers,
    database: Database,
    settings: Settings,
    make_key: Callable[..., Awaitable[Headers]],
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    (webhook_id,) = await insert_messages(database, endpoint_id)
    one = f"{URL}/{endpoint_id}"
    calls = [
        ("GET", URL),
        ("POST", URL),
        ("GET", one),
        ("PATCH", one),
        ("DELETE", one),
        ("POST", f"{one}/secrets"),
        ("POST", f"{one}/test"),
        ("GET", f"{one}/messages"),
        ("GET", f"{one}/messages/{webhook_id}/attempts"),
        ("POST", f"{one}/messages/{webhook_id}/replay"),
    ]
    before = await run(database, "SELECT * FROM webhook_endpoints")
    for method, url in calls:
        body = BODY if (method, url) == calls[1] else {} if method == "PATCH" else None
        assert (await client.request(method, url, json=body, headers=stranger)).status_code == 404
        through_own = url.replace(SLUG, "strangers")
        if url != URL:
            assert (await client.request(method, through_own, json=body, headers=stranger)).status_code == 404
            assert (await client.request(method, through_own, json=body, headers=owner)).status_code == 404
        for role in ("campaigner", "analyst", "data_officer"):
            answer = await client.request(method, url, json=body, headers=await make_key(role))
            assert answer.status_code == 403
    assert await run(database, "SELECT * FROM webhook_endpoints") == before


@pytest.mark.parametrize(
    ("address", "slug"),
    [
        ("https://inside.example.org/x", "target-refused"),
        ("https://both.example.org/x", "target-refused"),
        ("https://localhost/x", "target-refused"),
        ("https://169.254.169.254/latest/meta-data", "target-refused"),
        ("https://[::ffff:10.0.0.1]/x", "target-refused"),
        ("https://nowhere.example.org/x", "target-unresolvable"),
        ("http://hooks.example.org/x", "target-invalid"),
        ("https://2130706433/x", "target-invalid"),
        ("https://0177.0.0.1/x", "target-invalid"),
        ("https://user:pass@hooks.example.org/x", "target-invalid"),
        ("https://hooks.example.org/x#y", "target-invalid"),
        ("ftp://hooks.example.org/x", "target-invalid"),
    ],
)
async def test_an_address_that_must_not_be_called_is_refused(
    client: httpx.AsyncClient, partner: Headers, address: str, slug: str
) -> None:
    made = (await make(client, partner)).json()
    for answer in (
        await make(client, partner, url=address),
        await client.patch(f"{URL}/{made['id']}", json={"url": address}, headers=partner),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, f"urn:multitude:problem:{slug}")
        assert address not in answer.text
    (left,) = (await client.get(URL, headers=partner)).json()["items"]
    assert left["url"] == HOOK


async def test_a_name_server_that_hangs_holds_nobody(
    client: httpx.AsyncClient, partner: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.partners.outbound.endpoints.routes._RESOLVE_TIMEOUT", 0.05)
    answer = await make(client, partner, url="https://slow.example.org/")
    assert answer.json()["type"] == "urn:multitude:problem:target-unresolvable"


@pytest.mark.parametrize(
    "wrong",
    [
        {"types": []},
        {"types": ["webhook.test"]},
        {"types": ["signature.everything"]},
        {"url": ""},
        {"url": None},
        {"url": "https://hooks.example.org/" + "x" * 2000},
        {"contact": "nobody"},
        {"contact_locale": "not a locale"},
        {"state": "active"},
        {"secret": "whsec_abc"},
    ],
)
async def test_what_makes_no_endpoint_is_refused(
    client: httpx.AsyncClient, partner: Headers, wrong: dict[str, object]
) -> None:
    assert (await make(client, partner, **wrong)).status_code == 422
    assert (await client.get(URL, headers=partner)).json()["items"] == []


async def test_every_type_can_be_asked_for(client: httpx.AsyncClient, partner: Headers) -> None:
    made = await make(client, partner, types=[*TYPES.subscribable, *TYPES.subscribable])
    assert made.json()["types"] == sorted(TYPES.subscribable)


async def test_twenty_endpoints_are_the_most_also_when_they_are_made_at_once(
    client: httpx.AsyncClient, partner: Headers
) -> None:
    answers = await asyncio.gather(*(make(client, partner) for _ in range(MOST + 3)))
    assert sorted(answer.status_code for answer in answers) == [201] * MOST + [409] * 3
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["type"] == "urn:multitude:problem:too-many-endpoints"
    first = (await client.get(URL, headers=partner)).json()["items"][0]["id"]
    assert (await client.delete(f"{URL}/{first}", headers=partner)).status_code == 204
    assert (await make(client, partner)).status_code == 201


async def test_what_is_named_changes_and_the_rest_stays(client: httpx.AsyncClient, partner: Headers) -> None:
    made = (await make(client, partner, contact="ops@example.org")).json()
    url = f"{URL}/{made['id']}"
    changed = (await client.patch(url, json={"label": None, "types": ["person.erased"]}, headers=partner)).json()
    assert (changed["label"], changed["types"], changed["contact"]) == (None, ["person.erased"], "ops@example.org")
    assert changed["url"] == HOOK
    moved = (await client.patch(url, json={"url": HOOK + "2", "contact": None}, headers=partner)).json()
    assert (moved["url"], moved["contact"], moved["types"]) == (HOOK + "2", None, ["person.erased"])
    for wrong in ({"url": None}, {"types": None}, {"types": []}, {"state": "disabled"}, {"state": None}, {"x": 1}):
        assert (await client.patch(url, json=wrong, headers=partner)).status_code == 422


async def test_to_activate_an_endpoint_forgets_its_failures(
    client: httpx.AsyncClient, partnership: Partner, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    await insert_messages(database, endpoint_id)
    url = f"{URL}/{endpoint_id}"
    paused = (await client.patch(url, json={"state": "paused"}, headers=partnership.key)).json()
    assert (paused["state"], paused["state_reason"]) == ("paused", "by_hand")
    refused = await client.post(f"{url}/test", headers=partnership.key)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:endpoint-not-active")
    await run(
        database,
        "UPDATE webhook_endpoints SET failure_count = 9, failing_since = now(), ordered_due_at = now() + interval '1h'",
    )
    await run(database, "UPDATE webhook_messages SET due_at = now() + interval '1h'")
    active = (await client.patch(url, json={"state": "active"}, headers=partnership.key)).json()
    assert (active["state"], active["state_reason"], active["failing_since"]) == ("active", None, None)
    rows = await run(database, "SELECT failure_count, ordered_due_at FROM webhook_endpoints")
    assert tuple(rows[0]) == (0, None)
    assert (await run(database, "SELECT due_at <= now() FROM webhook_messages"))[0][0]


async def test_what_had_failed_is_tried_within_a_minute_of_activating_and_in_its_order(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    ids = await insert_messages(database, endpoint_id, 1100)
    later = "now() + interval '1 h' * (1 + get_byte(uuid_send(id), 15))"
    await run(database, f"UPDATE webhook_messages SET attempt_count = 9, due_at = {later}")
    before = await run(database, "SELECT id FROM webhook_messages ORDER BY due_at, id")
    await client.patch(f"{URL}/{endpoint_id}", json={"state": "paused"}, headers=partner)
    await client.patch(f"{URL}/{endpoint_id}", json={"state": "active"}, headers=partner)
    times = (
        "SELECT count(DISTINCT due_at), max(due_at) <= now() + interval '1 min', max(attempt_count)"
        " FROM webhook_messages WHERE due_at > now() - interval '1 min'"
    )
    assert tuple((await run(database, times))[0]) == (len(ids), True, 0)
    assert await run(database, "SELECT id FROM webhook_messages ORDER BY due_at, id") == before


async def test_trying_and_replaying_need_an_active_endpoint_and_have_a_limit(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    (webhook_id,) = await insert_messages(database, endpoint_id)
    url = f"{URL}/{endpoint_id}"
    replay = f"{url}/messages/{webhook_id}/replay"
    for state in ("paused", "disabled"):
        await run(database, f"UPDATE webhook_endpoints SET state = '{state}'")
        for path in (f"{url}/test", replay):
            refused = await client.post(path, headers=partner)
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:endpoint-not-active")
    await client.patch(url, json={"state": "active"}, headers=partner)
    for path, most in ((f"{url}/test", 30), (replay, 300)):
        codes = [(await client.post(path, headers=partner)).status_code for _ in range(most + 1)]
        assert codes[-1] == 429
        # Those that were refused before count as well.
        assert codes.count(429) == 3
    other = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    assert (await client.post(f"{URL}/{other}/test", headers=partner)).status_code == 201


async def test_with_an_endpoint_goes_what_it_was_told(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings, owner: Headers
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    await insert_messages(database, endpoint_id, 3)
    await second_person.confirm(client, await client.delete(f"{URL}/{endpoint_id}", headers=partner), owner)
    assert (await client.delete(f"{URL}/{endpoint_id}", headers=partner)).status_code == 404
    assert (await client.get(URL, headers=partner)).json()["items"] == []
    assert await cleared(database) == 4
    for table in ("webhook_messages", "webhook_endpoints"):
        assert await run(database, f"SELECT id FROM {table}") == []


async def cleared(database: Database) -> int:
    async with database.transaction() as session:
        return len(await clear_endpoints(session))


async def test_a_long_history_is_deleted_bit_by_bit(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    kept = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    await insert_messages(database, endpoint_id, BATCH + 10, "person.erased")
    await insert_messages(database, kept, 5)
    await client.delete(f"{URL}/{endpoint_id}", headers=partner)
    assert len(await run(database, "SELECT id FROM webhook_messages")) == BATCH + 15
    assert [await cleared(database) for _ in range(3)] == [BATCH, 11, 0]
    assert len(await run(database, "SELECT id FROM webhook_messages")) == 5


async def test_what_waits_for_a_disabled_endpoint_is_buried_bit_by_bit(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    await insert_messages(database, endpoint_id, BATCH, "person.erased")
    await insert_messages(database, endpoint_id, 10)
    await run(database, "UPDATE webhook_endpoints SET state = 'paused'")
    assert await cleared(database) == 0
    await run(database, "UPDATE webhook_endpoints SET state = 'disabled', state_reason = 'gone'")
    assert [await cleared(database) for _ in range(3)] == [BATCH, 10, 0]
    assert (await run(database, "SELECT bool_and(state = 'dead') FROM webhook_messages"))[0][0]
    assert (await client.get(f"{URL}/{endpoint_id}", headers=partner)).json()["state"] == "disabled"


async def test_messages_are_listed_by_state_and_type(
    client: httpx.AsyncClient, partner: Headers, database: Database, settings: Settings
) -> None:
    endpoint_id = await insert_endpoint(database, settings, HOOK, slug=SLUG)
    tests = await insert_messages(database, endpoint_id, 3)
    (erased,) = await insert_messages(database, endpoint_id, 1, "person.erased")
    await run(database, "UPDATE webhook_messages SET state = 'dead' WHERE id = :id", id=UUID(tests[0][4:]))
    url = f"{URL}/{endpoint_id}/messages"

    async def listed(**params: object) -> list[str]:
        answer = await client.get(url, params=params, headers=partner)
        return [one["webhook_id"] for one in answer.json()["items"]]

    assert await listed() == [erased, *reversed(tests)]
    assert await listed(state="dead") == [tests[0]]
    assert await listed(type="person.erased") == [erased]
    assert await listed(type="webhook.test", state="due") == [tests[2], tests[1]]
    first = (await client.get(url, params={"limit": 3}, headers=partner)).json()
    assert await listed(cursor=first["next_cursor"]) == [tests[0]]
    assert (await client.get(url, params={"state": "lost"}, headers=partner)).status_code == 422
    nowhere = await client.get(f"{url}/msg_{endpoint_id}/attempts", headers=partner)
    assert nowhere.json()["type"] == "urn:multitude:problem:webhook-message-not-found"


async def test_whoever_is_shown_the_contact_of_an_endpoint_is_entered(
    client: httpx.AsyncClient, partner: Headers, owner: Headers, known: None
) -> None:
    made = (await make(client, partner, contact="ops@example.org")).json()
    for url in (URL, f"{URL}/{made['id']}"):
        assert "ops@example.org" in (await client.get(url, headers=owner)).text
    log = await client.get("/v1/audit-log", headers=owner, params={"verb": "webhook_endpoint.look"})
    one, all_ = log.json()["items"]
    assert {(entry["category"], entry["role"], entry["row_count"]) for entry in (one, all_)} == {("look", "owner", 1)}
    assert (one["object_kind"], one["object_id"]) == ("webhook_endpoint", made["id"])
    assert all_["object_kind"] == "organization"
    assert "ops@" not in log.text
