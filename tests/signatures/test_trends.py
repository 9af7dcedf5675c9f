"""Where the signatures of the last minutes came from."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.signatures.moderation.trends import BrinMaintenance
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import AT, prepared_signing, sign_all
from tests.support.types import Headers

FARM = bytes.fromhex("0011223344556677")
BRIN_RANGES = (
    "SELECT count(*) FROM generate_series(0, pg_relation_size('signatures') / 8192 / 64) AS range"
    " WHERE brin_summarize_range('ix_signatures__signed_at', range * 64) > 0"
)


def at(domain: str, count: int, petition_id: UUID, *, ago: timedelta = timedelta(0), **signals: Any) -> list[Any]:
    """So many people of one domain who signed so long ago."""
    bodies = [
        person(n, email=f"{n}@{domain}", source="letter", signed_at=(now() - ago).isoformat()) for n in range(count)
    ]
    return [prepared_signing(petition_id, body, **signals) for body in bodies]


async def trends(client: httpx.AsyncClient, headers: Headers, minutes: int | None = None) -> Any:
    answer = await client.get(f"{AT}/trends{f'?minutes={minutes}' if minutes else ''}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_staff_see_which_addresses_domains_and_sources_the_last_signatures_share(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, analyst: Headers
) -> None:
    await sign_all(
        database,
        [
            *at("farm.example", 7, petition_id, address_digest=FARM),
            *at("mailinator.com", 5, petition_id, on_hold=True),
            *at("amina-okello.example", 4, petition_id, address_digest=b"homehome"),
            *at("long.ago.example", 9, petition_id, ago=timedelta(minutes=20)),
        ],
    )
    await sign_all(database, at("farm.example", 9, await insert_petition(database, "another")))
    told = await trends(client, analyst)
    assert (told["minutes"], told["signature_count"]) == (15, 16)
    assert (told["held_count"], told["disposable_count"]) == (5, 5)
    assert told["by_address_digest"] == [
        {"key": FARM.hex(), "signature_count": 7},
        {"key": None, "signature_count": 9},
    ]
    assert [(row["key"], row["signature_count"]) for row in told["by_mail_domain"]] == [
        ("farm.example", 7),
        ("mailinator.com", 5),
        (None, 4),
    ]
    assert told["by_source"] == [{"key": "letter", "signature_count": 16}]
    assert "amina" not in str(told)
    assert b"homehome".hex() not in str(told)
    longer = await trends(client, analyst, 60)
    assert (longer["signature_count"], longer["by_mail_domain"][0]["key"]) == (25, "long.ago.example")


async def test_the_twenty_largest_are_shown_and_the_rest_is_one(
    client: httpx.AsyncClient, database: Database, petition_id: UUID, analyst: Headers
) -> None:
    people = [one for n in range(22) for one in at(f"domain-{n}.example", 5 + (n > 1), petition_id)]
    await sign_all(database, people)
    rows = (await trends(client, analyst))["by_mail_domain"]
    assert (len(rows), rows[-1]["key"], rows[-1]["signature_count"]) == (21, None, 10)
    assert sum(row["signature_count"] for row in rows) == len(people)


async def test_a_quiet_petition_has_no_trends(client: httpx.AsyncClient, petition_id: UUID, analyst: Headers) -> None:
    told = await trends(client, analyst, 1)
    assert (told["signature_count"], told["by_mail_domain"], told["by_source"]) == (0, [], [])


async def test_trends_are_for_staff_and_for_a_while(
    client: httpx.AsyncClient, petition_id: UUID, analyst: Headers
) -> None:
    assert (await client.get(f"{AT}/trends")).status_code == 401
    assert (await client.get("/v1/petitions/nowhere/trends", headers=analyst)).status_code == 404
    for minutes in ("0", "61", "many"):
        assert (await client.get(f"{AT}/trends?minutes={minutes}", headers=analyst)).status_code == 422


@pytest.fixture
async def unvacuumed(own_url: str) -> AsyncIterator[Database]:
    """A database in which nobody but us summarizes the index: a vacuum would do it as it passes, whenever it likes."""
    database = Database(own_url, name="test")
    await run(database, "ALTER TABLE signatures SET (autovacuum_enabled = false)")
    yield database
    await database.close()


async def test_the_index_is_kept_up_at_most_once_a_minute(unvacuumed: Database) -> None:
    database, petition_id = unvacuumed, await insert_petition(unvacuumed)
    for first in range(0, 4000, 1000):
        await sign_all(database, [prepared_signing(petition_id, person(n)) for n in range(first, first + 1000)])
    summarize = BrinMaintenance()
    async with database.transaction() as session:
        assert len(await summarize(session)) >= 1
    assert await run(database, BRIN_RANGES) == [(0,)]
    await sign_all(database, [prepared_signing(petition_id, person(n)) for n in range(4000, 9000)])
    async with database.transaction() as session:
        assert len(await summarize(session)) == 0
        assert len(await BrinMaintenance()(session)) >= 1


async def test_the_index_is_left_alone_while_a_vacuum_is_at_the_table(unvacuumed: Database) -> None:
    database, petition_id = unvacuumed, await insert_petition(unvacuumed)
    for first in range(0, 4000, 1000):
        await sign_all(database, [prepared_signing(petition_id, person(n)) for n in range(first, first + 1000)])
    summarize = BrinMaintenance()
    async with database.transaction() as vacuuming:
        await run_in(vacuuming, "LOCK TABLE signatures IN SHARE UPDATE EXCLUSIVE MODE")
        async with database.transaction() as session:
            assert len(await summarize(session)) == 0
    async with database.transaction() as session:
        assert len(await summarize(session)) >= 1


async def run_in(session: Any, statement: str) -> None:
    connection = await session.connection()
    await connection.exec_driver_sql(statement)
