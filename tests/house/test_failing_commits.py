"""A commit that fails is never acknowledged: the database refuses at the last moment, and the client is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.kit.database.session import Database
from tests.support.api_surface import House, problem_of
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.tallies import dump_signatures, exact_counts

# A bug's, a broken rule's, a lost race's and a stopping server's.
SQLSTATES = ["P0001", "23514", "40001", "57P01"]


@asynccontextmanager
async def failing_at_commit(database: Database, table: str, sqlstate: str, when: str = "true") -> AsyncIterator[None]:
    """Every transaction that inserts into this table fails when it commits, and not before."""
    await run(
        database,
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'refused at commit' USING ERRCODE = '{sqlstate}'; END $$""",
    )
    await run(
        database,
        f"""CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON {table}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()""",
    )
    try:
        yield
    finally:
        await run(database, "DROP FUNCTION refuse CASCADE")


@pytest.mark.parametrize("sqlstate", SQLSTATES)
async def test_a_campaign_whose_commit_failed_is_not_acknowledged(house: House, sqlstate: str) -> None:
    body = {"slug": f"campaign-{sqlstate.lower()}", "title": "End the ban", "goal": "No country punishes love"}
    staff = house.keys["campaigner"]
    async with failing_at_commit(house.database, "campaigns", sqlstate):
        answer = await house.client.post("/v1/campaigns", json=body, headers=staff)
        assert problem_of(answer)["status"] in {500, 503}
        assert (await house.client.get(f"/v1/campaigns/{body['slug']}")).status_code == 404
    assert (await house.client.post("/v1/campaigns", json=body, headers=staff)).status_code == 201
    assert (await house.client.get(f"/v1/campaigns/{body['slug']}")).status_code == 200


@pytest.mark.parametrize("table", ["signatures", "signature_tallies"])
@pytest.mark.parametrize("sqlstate", SQLSTATES)
async def test_a_signature_whose_commit_failed_is_not_acknowledged(house: House, table: str, sqlstate: str) -> None:
    at = f"/v1/petitions/{table.replace('_', '-')}-{sqlstate.lower()}"
    await insert_petition(house.database, at.rpartition("/")[2])
    before = await dump_signatures(house.database)
    async with failing_at_commit(house.database, table, sqlstate):
        answer = await house.client.post(f"{at}/signatures", json=person(1))
        assert problem_of(answer)["status"] in {500, 503}
        assert await dump_signatures(house.database) == before
    assert (await house.client.post(f"{at}/signatures", json=person(1))).status_code == 201
    assert (await house.client.get(f"{at}/count")).json()["signature_count"] == 1
    await exact_counts(house.database)


async def test_a_poisoned_signature_costs_no_other_its_commit(house: House) -> None:
    """The database refuses one row at the commit of a batch: that signer is told, its neighbours count."""
    await insert_petition(house.database, "crowded")
    async with failing_at_commit(house.database, "signatures", "23514", "NEW.country = 'KE'"):
        bodies = [person(number, "KE" if number == 7 else "UG") for number in range(20)]
        answers = await asyncio.gather(
            *(house.client.post("/v1/petitions/crowded/signatures", json=body) for body in bodies)
        )
    assert [answer.status_code for answer in answers] == [500 if number == 7 else 201 for number in range(20)]
    problem_of(answers[7])
    assert (await exact_counts(house.database))["crowded"] == 19
