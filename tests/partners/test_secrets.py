"""Secrets for webhooks that come in: shown once, several at once, ended at any moment, never in plain sight."""

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from app.kit.crypto.key_rotation import SealedColumn, reseal
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.kit.room_interface import sealed_columns_of
from app.partners import key_rotation
from app.partners.inbound.secrets.service import LiveSecret, key_of, live_secrets, note_use
from app.rooms import ROOMS
from app.settings import Settings
from tests.support import second_person
from tests.support.databases import run
from tests.support.partners import Partner, one_after_the_other
from tests.support.settings import SECRET_KEYS
from tests.support.types import Headers, Json

NEW = "a-new-secret-that-is-only-for-tests-02"
BODY = '{"petition": "repeal-the-act"}'

Make = Callable[..., Awaitable[Json]]
Live = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def at(partnership: Partner) -> str:
    """Where the partner's secrets are."""
    return f"/v1/partners/{partnership.slug}/webhook-secrets"


@pytest.fixture
def make(client: httpx.AsyncClient, at: str, partner: Headers) -> Make:
    """Make a secret."""

    async def make(**body: object) -> Json:
        answer = await client.post(at, json=body, headers=partner)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    return make


@pytest.fixture
def live(database: Database, settings: Settings, partnership: Partner) -> Live:
    """The secrets that what the partner posts is held against."""

    async def live(scheme: str = "standard", organization_id: UUID = partnership.organization_id) -> list[str]:
        async with database.transaction() as session:
            found = await live_secrets(session, settings.key_ring, organization_id, scheme)
        return [one.secret for one in found]

    return live


def encoded(length: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(length))).decode()


async def test_a_new_secret_is_shown_once_and_signs(
    client: httpx.AsyncClient, at: str, partner: Headers, partnership: Partner, live: Live
) -> None:
    answer = await client.post(at, json={"label": "our web site"}, headers=partner)
    made = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert (made["scheme"], made["label"], made["live"]) == ("standard", "our web site", True)
    assert made["secret"].startswith("whsec_")
    assert len(key_of(made["secret"])) == 32
    moment = datetime.now(UTC)
    signature = Webhook(made["secret"]).sign("msg_1", moment, BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}
    newest, eldest = await live()
    assert Webhook(newest).verify(BODY, headers) == {"petition": "repeal-the-act"}
    assert (newest, eldest) == (made["secret"], partnership.secret)
    listed = await client.get(at, headers=partner)
    assert [set(item) for item in listed.json()["items"]] == [set(made) - {"secret"}] * 2
    assert listed.json()["items"][0] == {name: made[name] for name in set(made) - {"secret"}}
    for secret in (newest, eldest):
        assert secret.removeprefix("whsec_")[:20] not in listed.text


async def test_neither_the_database_nor_any_log_holds_a_secret(make: Make, database: Database) -> None:
    with capture_logs() as logged:
        told = [
            (await make())["secret"],
            (await make(secret=encoded(40)))["secret"],
            (await make(scheme="controlshift", secret="a secret of control shift"))["secret"],
            (await make(scheme="action_network"))["secret"],
        ]
    stored = ""
    for (table,) in await run(database, "SELECT table_name FROM information_schema.tables WHERE table_schema='public'"):
        stored += "\n".join(row[0] for row in await run(database, f'SELECT t::text FROM "{table}" t'))
    assert "controlshift" in stored
    for secret in told:
        plain = [secret, secret.encode().hex(), secret.removeprefix("whsec_")]
        plain += [key_of(secret).hex()] if secret.startswith("whsec_") else []
        assert [form for form in plain if form in stored or form in str(logged)] == []


async def test_a_secret_at_hand_does_not_show_in_what_is_written_of_it() -> None:
    told = LiveSecret(uuid7(), "whsec_abc")
    assert "whsec" not in f"{told!r} {told}"


async def test_an_address_of_action_network_is_no_shorter_than_a_key(make: Make, live: Live) -> None:
    made = await make(scheme="action_network")
    assert len(base64.urlsafe_b64decode(made["secret"] + "=")) == 32
    assert made["secret"].replace("-", "").replace("_", "").isalnum()
    assert await live("action_network") == [made["secret"]]


BROUGHT = [
    ("standard", encoded(24)),
    ("standard", encoded(64)),
    ("controlshift", "x" * 16),
    ("controlshift", "kämpala " * 25),
]


@pytest.mark.parametrize(("scheme", "secret"), BROUGHT)
async def test_a_secret_can_be_brought(make: Make, live: Live, scheme: str, secret: str) -> None:
    assert (await make(scheme=scheme, secret=secret))["secret"] == secret
    assert (await live(scheme))[0] == secret


REFUSED: list[tuple[str, object]] = [
    ("standard", encoded(23)),
    ("standard", encoded(65)),
    ("standard", encoded(32).removeprefix("whsec_")),
    ("standard", encoded(31).rstrip("=")),
    ("standard", encoded(32)[:-4] + "\n===" + "marker"),
    ("standard", encoded(32).replace("A", "-")),
    ("standard", encoded(32)[:10] + "!" + encoded(32)[10:]),
    ("standard", "whsec_" + "ä" * 44),
    ("standard", ""),
    ("standard", 4711),
    ("controlshift", "marker" + "x" * 9),
    ("controlshift", "marker" * 34),
    ("controlshift", "marker-marker\0marker"),
    ("controlshift", "marker-marker\u202emarker"),
    ("action_network", "marker-marker-marker-marker"),
    ("smoke-signals", "marker-marker-marker-marker"),
]


@pytest.mark.parametrize(("scheme", "secret"), REFUSED)
async def test_a_secret_that_does_not_fit_is_refused_and_not_repeated(
    client: httpx.AsyncClient, at: str, partner: Headers, database: Database, scheme: str, secret: object
) -> None:
    answer = await client.post(at, json={"scheme": scheme, "secret": secret}, headers=partner)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:invalid")
    assert "marker" not in answer.text
    assert (str(secret)[6:20] or "4711") not in answer.text
    assert (await run(database, "SELECT count(*) FROM webhook_secrets"))[0][0] == 1


async def test_rotating_has_no_moment_without_a_live_secret(
    client: httpx.AsyncClient, at: str, partner: Headers, partnership: Partner, make: Make, live: Live
) -> None:
    made = await make()
    assert await live() == [made["secret"], partnership.secret]
    answer = await client.delete(f"{at}/{partnership.secret_id}", headers=partner)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await live() == [made["secret"]]
    shown = (await client.get(at, headers=partner)).json()["items"]
    assert [item["live"] for item in shown] == [True, False]
    assert shown[1]["revoked_at"] is not None


async def test_schemes_and_partners_do_not_share_secrets(make: Make, live: Live, partnership: Partner) -> None:
    made = await make(scheme="controlshift")
    assert await live("controlshift") == [made["secret"]]
    assert await live("standard") == [partnership.secret]
    assert await live("action_network") == []
    assert await live("standard", uuid7()) == []


async def test_ending_a_secret_again_is_harmless_and_destroys_it_the_first_time(
    client: httpx.AsyncClient, at: str, partner: Headers, partnership: Partner, database: Database, owner: Headers
) -> None:
    here = f"{at}/{partnership.secret_id}"
    await second_person.confirm(client, await client.delete(here, headers=partner), owner)
    first = await run(database, "SELECT revoked_at, sealed FROM webhook_secrets")
    assert first[0].sealed == b""
    assert (await client.delete(here, headers=partner)).status_code == 204
    assert await run(database, "SELECT revoked_at, sealed FROM webhook_secrets") == first
    for other in (uuid7(), "nothing", partnership.organization_id):
        answer = await client.delete(f"{at}/{other}", headers=partner)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:multitude:problem:webhook-secret-not-found")


async def test_a_secret_expires(
    client: httpx.AsyncClient, at: str, partner: Headers, make: Make, live: Live, database: Database
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    made = await make(expires_at=later.isoformat())
    assert made["secret"] in await live()
    await run(
        database,
        "UPDATE webhook_secrets SET expires_at = now() - interval '1 second' WHERE id = :id",
        id=UUID(made["id"]),
    )
    assert made["secret"] not in await live()
    assert (await client.get(at, headers=partner)).json()["items"][0]["live"] is False
    for wrong, problem in (((later - timedelta(hours=2)).isoformat(), "expiry-past"), ("tomorrow", "invalid")):
        answer = await client.post(at, json={"expires_at": wrong}, headers=partner)
        assert (answer.status_code, answer.json()["type"]) == (422, f"urn:multitude:problem:{problem}")


async def test_five_are_live_at_the_most_and_what_has_ended_makes_room(
    client: httpx.AsyncClient,
    at: str,
    partner: Headers,
    partnership: Partner,
    make: Make,
    live: Live,
    database: Database,
) -> None:
    ids = [(await make())["id"] for _ in range(4)]
    refused = await client.post(at, json={}, headers=partner)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:too-many-secrets")
    await make(scheme="controlshift")
    await client.delete(f"{at}/{ids[0]}", headers=partner)
    await make()
    assert (await client.post(at, json={}, headers=partner)).status_code == 409
    await run(database, "UPDATE webhook_secrets SET expires_at = now() WHERE id = :id", id=UUID(ids[1]))
    calls = [lambda: client.post(at, json={}, headers=partner)] * 3
    answers = await one_after_the_other(database, "SELECT 1 FROM organizations FOR NO KEY UPDATE", *calls)
    assert [answer.status_code for answer in answers] == [201, 409, 409]
    assert len(await live()) == 5


async def test_a_stolen_key_does_not_reach_another_partners_secrets(
    client: httpx.AsyncClient, at: str, stranger: Headers, partnership: Partner, live: Live
) -> None:
    for ref in (partnership.slug, str(partnership.organization_id), "movement", "nobody"):
        there = f"/v1/partners/{ref}/webhook-secrets"
        answers = [
            await client.get(there, headers=stranger),
            await client.post(there, json={"secret": encoded(32)}, headers=stranger),
            await client.delete(f"{there}/{partnership.secret_id}", headers=stranger),
        ]
        told = {(answer.status_code, answer.json()["type"]) for answer in answers}
        assert told == {(404, "urn:multitude:problem:organization-not-found")}
    own = await client.delete(f"/v1/partners/strangers/webhook-secrets/{partnership.secret_id}", headers=stranger)
    assert own.status_code == 404
    assert await live() == [partnership.secret]


async def test_owners_keep_a_partners_secrets_and_the_movement_has_none(
    client: httpx.AsyncClient, at: str, owner: Headers, partnership: Partner, live: Live
) -> None:
    made = await client.post(at, json={}, headers=owner)
    assert made.status_code == 201
    assert (await client.delete(f"{at}/{partnership.secret_id}", headers=owner)).status_code == 204
    assert await live() == [made.json()["secret"]]
    assert (await client.post("/v1/partners/movement/webhook-secrets", json={}, headers=owner)).status_code == 404


async def test_the_use_of_a_secret_is_noted_to_the_minute(
    client: httpx.AsyncClient, at: str, partner: Headers, partnership: Partner, database: Database
) -> None:
    async def used() -> datetime | None:
        (item,) = (await client.get(at, headers=partner)).json()["items"]
        return datetime.fromisoformat(item["last_used_at"]) if item["last_used_at"] else None

    async def use() -> None:
        async with database.transaction() as session:
            await note_use(session, partnership.secret_id)

    assert await used() is None
    await use()
    first = await used()
    assert first is not None
    await use()
    assert await used() == first
    await run(database, "UPDATE webhook_secrets SET last_used_at = last_used_at - interval '2 minutes'")
    await use()
    again = await used()
    assert again is not None
    assert again >= first


async def test_a_secret_that_no_key_opens_costs_only_itself(
    make: Make, live: Live, partnership: Partner, database: Database
) -> None:
    made = await make()
    # Moved from one row to another it does not open.
    moved = "UPDATE webhook_secrets SET sealed = (SELECT sealed FROM webhook_secrets WHERE id = :from) WHERE id = :to"
    await run(database, moved, **{"from": UUID(made["id"]), "to": partnership.secret_id})
    with capture_logs() as logged:
        assert await live() == [made["secret"]]
    assert [entry["secret"] for entry in logged] == [str(partnership.secret_id)]


async def test_secrets_come_under_a_newer_key(partnership: Partner, make: Make, database: Database) -> None:
    made = await make(scheme="controlshift")
    connection = await database.pin()
    try:
        ring = KeyRing.parse(f"{NEW},{SECRET_KEYS}")
        done = await reseal(database, connection, ring, key_rotation.WEBHOOK_SECRETS, lambda _: None)
    finally:
        await connection.close()
    assert (done.sealed_count, done.resealed_count, done.unreadable_count, done.left_count) == (2, 2, 0, 0)
    alone = KeyRing.parse(NEW, SECRET_KEYS)
    async with database.transaction() as session:
        (standard,) = await live_secrets(session, alone, partnership.organization_id, "standard")
        (controlshift,) = await live_secrets(session, alone, partnership.organization_id, "controlshift")
    assert (standard.secret, controlshift.secret) == (partnership.secret, made["secret"])


_ROWS = {
    "received_webhooks": (
        "INSERT INTO received_webhooks (id, organization_id, webhook_digest, body_digest, received_at, answer)"
        " VALUES (:id, :organization, 'digest', 'digest', now(), :sealed)"
    ),
    "webhook_endpoints": (
        "INSERT INTO webhook_endpoints (id, organization_id, sealed, types, state, failure_count, mail_count,"
        " created_at, updated_at) VALUES (:id, :organization, :sealed, '{}', 'active', 0, 0, now(), now())"
    ),
    "delivery_attempts": (
        "INSERT INTO delivery_attempts (id, message_id, attempted_at, duration_ms, answer)"
        " SELECT :id, id, now(), 1, :sealed FROM webhook_messages"
    ),
}
_MESSAGE = (
    "INSERT INTO webhook_messages"
    " (id, endpoint_id, type, ordered, content, state, due_at, retried_until, attempt_count, created_at)"
    " SELECT gen_random_uuid(), id, 'webhook.test', false, '{}', 'due', now(), now(), 0, now()"
    " FROM webhook_endpoints"
)
_COLUMNS = {
    "received_webhooks": key_rotation.RECEIVED_WEBHOOKS,
    "webhook_endpoints": key_rotation.WEBHOOK_ENDPOINTS,
    "delivery_attempts": key_rotation.DELIVERY_ATTEMPTS,
}


async def test_all_that_this_room_seals_comes_under_a_newer_key(
    partnership: Partner, settings: Settings, database: Database
) -> None:
    ids: dict[str, UUID] = {}
    for table, statement in _ROWS.items():
        column, ids[table] = _COLUMNS[table], uuid7()
        assert column in sealed_columns_of(ROOMS)
        if table == "delivery_attempts":
            await run(database, _MESSAGE)
        sealed = settings.key_ring.seal(table.encode(), f"{table}.{column.column}".encode() + ids[table].bytes)
        values = {"id": ids[table], "sealed": sealed, "organization": partnership.organization_id}
        await run(database, statement, **{name: value for name, value in values.items() if f":{name}" in statement})
    connection = await database.pin()
    try:
        for table, column in _COLUMNS.items():
            await _comes_under_a_newer_key(database, connection, column, ids[table])
    finally:
        await connection.close()


async def _comes_under_a_newer_key(database: Database, connection: object, column: SealedColumn, id_: UUID) -> None:
    ring = KeyRing.parse(f"{NEW},{SECRET_KEYS}")
    done = await reseal(database, connection, ring, column, lambda _: None)  # type: ignore[arg-type]
    assert (done.sealed_count, done.resealed_count, done.unreadable_count, done.left_count) == (1, 1, 0, 0)
    ((sealed,),) = await run(database, f"SELECT {column.column} FROM {column.table}")
    assert KeyRing.parse(NEW, SECRET_KEYS).open(sealed, column.identity(id_)) == column.table.encode()
    with pytest.raises(SealBrokenError):
        KeyRing.parse(SECRET_KEYS).open(sealed, column.identity(id_))
