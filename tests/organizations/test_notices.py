"""Whoever runs the service is told when a key sees or destroys much, and what waits for a second person's word."""

from datetime import timedelta
from uuid import UUID

import httpx
from prometheus_client import REGISTRY
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.organizations.audit.chain import Act, append
from app.organizations.models import Category
from app.organizations.notices import OwnerNotices
from app.organizations.principals import NO_ORGANIZATION, Principal
from app.settings import Settings
from tests.support.application import running_worker
from tests.support.databases import run
from tests.support.factories import insert_petition
from tests.support.smtp import SmtpServer
from tests.support.types import Headers

LOUD = {"alert_names_per_hour": 100, "alert_destructions_per_hour": 2}


async def enter(database: Database, key_id: UUID, count: int, category: Category = "look") -> None:
    async with database.transaction() as session:
        act = Act("people.look", "organization", category=category, row_count=count)
        await append(session, Principal(key_id, NO_ORGANIZATION, "", "owner"), act)


async def noticed(database: Database, notices: OwnerNotices) -> int:
    async with database.transaction() as session:
        return len(await notices(session))


def alerts(kind: str) -> float:
    return REGISTRY.get_sample_value("multitude_alerts_total", {"kind": kind}) or 0.0


async def test_a_key_that_is_shown_many_names_in_an_hour_is_told_of_once(
    database: Database, settings: Settings
) -> None:
    notices, key, other = OwnerNotices(settings.model_copy(update=LOUD)), uuid7(), uuid7()
    before = alerts("audit_alert")
    await enter(database, key, 60)
    await enter(database, other, 60)
    await enter(database, key, 500, "act")
    assert await noticed(database, notices) == 0
    await enter(database, key, 41)
    with capture_logs() as logs:
        assert await noticed(database, notices) == 1
    (line,) = [line for line in logs if line["event"] == "a key sees or destroys much"]
    assert (line["key_id"], line["what"], line["count"], line["log_level"]) == (str(key), "look", "101", "warning")
    assert alerts("audit_alert") == before + 1
    await enter(database, key, 1000)
    # Another worker knows of it by the database.
    assert [await noticed(database, one) for one in (notices, OwnerNotices(settings.model_copy(update=LOUD)))] == [0, 0]


async def test_another_hour_is_told_of_anew(database: Database, settings: Settings) -> None:
    notices, key = OwnerNotices(settings.model_copy(update=LOUD)), uuid7()
    await enter(database, key, 101)
    assert await noticed(database, notices) == 1
    about = f"{key} look {now() - timedelta(hours=1):%Y-%m-%dT%H}"
    await run(database, "UPDATE owner_notices SET about = :about", about=about)
    await enter(database, key, 1)
    assert await noticed(database, notices) == 1


async def test_destructions_are_counted_one_by_one(database: Database, settings: Settings) -> None:
    notices, key = OwnerNotices(settings.model_copy(update=LOUD)), uuid7()
    for _ in range(2):
        await enter(database, key, 10_000, "destruction")
    assert await noticed(database, notices) == 0
    await enter(database, key, 1, "destruction")
    assert await noticed(database, notices) == 1


async def test_every_alert_address_is_mailed_once_and_no_address_is_stored(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, settings: Settings
) -> None:
    await insert_petition(database, state="closed", opens_at=now() - timedelta(hours=1), closes_at=now())
    addresses = ["ops@example.org", "trust@example.org"]
    with SmtpServer() as mailbox:
        more = {"smtp_url": SecretStr(mailbox.url), "alert_addresses": addresses, "alert_locale": "de", **LOUD}
        async with running_worker(settings.model_copy(update=more)):
            answer = await client.post("/v1/petitions/end-the-ban/archive", headers=campaigner)
            await mailbox.arrived(2, 20)
            await enter(database, uuid7(), 101)
            await mailbox.arrived(4, 20)
        assert mailbox.counts() == dict.fromkeys(addresses, 2)
        first = mailbox.to(addresses[0])
    assert [mail.subject for mail in first] == [
        "Etwas Endgültiges wartet auf Ihr Wort",
        "Ein Schlüssel sieht oder zerstört viel",
    ]
    assert answer.json()["id"] in first[0].text
    rows = await run(database, "SELECT kind, about, due_at, mail_count, owner_notices::text FROM owner_notices")
    assert sorted(row.kind for row in rows) == ["audit_alert"] * 2 + ["pending_act"] * 2
    assert {row.about for row in rows if row.kind == "pending_act"} == {answer.json()["id"]}
    assert not any("example.org" in row.owner_notices for row in rows)


async def test_without_an_address_it_is_logged_all_the_same(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, settings: Settings
) -> None:
    await insert_petition(database, state="closed", opens_at=now() - timedelta(hours=1), closes_at=now())
    act = (await client.post("/v1/petitions/end-the-ban/archive", headers=campaigner)).json()
    with capture_logs() as logs:
        assert [await noticed(database, OwnerNotices(settings)) for _ in range(2)] == [1, 0]
    (line,) = [line for line in logs if line["event"] == "an act waits"]
    assert (line["act_id"], line["verb"]) == (act["id"], "petition.archive")
    assert await run(database, "SELECT id FROM owner_notices WHERE due_at IS NOT NULL") == []


async def test_a_row_of_the_log_is_kept_though_its_notice_is_forgotten(database: Database, settings: Settings) -> None:
    await enter(database, uuid7(), 101)
    notices = OwnerNotices(settings.model_copy(update=LOUD))
    assert await noticed(database, notices) == 1
    await run(database, "UPDATE owner_notices SET created_at = created_at - interval '31 days', about = 'long ago'")
    await noticed(database, OwnerNotices(settings))
    assert await run(database, "SELECT id FROM owner_notices") == []
    assert len(await run(database, "SELECT number FROM audit_entries")) == 1


async def test_looks_are_counted_together_with_those_of_all_keys_made_with_one(
    client: httpx.AsyncClient, owner: Headers, database: Database, settings: Settings
) -> None:
    keys, made, by = "/v1/organizations/movement/api-keys", list[str](), owner
    for _ in range(3):
        answer = (await client.post(keys, json={"role": "owner"}, headers=by)).json()
        made.append(answer["id"])
        by = {"Authorization": f"Bearer {answer['key']}"}
    notices = OwnerNotices(settings.model_copy(update=LOUD))
    for one in made[:2]:
        await enter(database, UUID(one), 50)
    assert await noticed(database, notices) == 0
    await enter(database, UUID(made[2]), 1)
    with capture_logs() as logs:
        assert await noticed(database, notices) == 1
    (line,) = [line for line in logs if line["event"] == "a key sees or destroys much"]
    roots = await run(database, "SELECT id FROM api_keys WHERE NOT CAST(id AS text) = ANY (:made)", made=made)
    assert (line["key_id"], line["count"]) == (str(roots[0][0]), "101")
    assert await noticed(database, OwnerNotices(settings.model_copy(update=LOUD))) == 0
