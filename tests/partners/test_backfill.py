"""Consents that were entered by code that announces nothing are told of in the end, each once."""

from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from app.commands.backfill import announce
from app.kit.clock import now
from app.kit.database.session import Database
from app.partners.outbound.message_types import backfill
from app.partners.outbound.message_types.backfill import Backfill
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.outbox import fan_out_all, insert_mute_endpoint, pending, pending_data, sign_with_consent
from tests.support.partners import SLUG, Partner
from tests.support.types import Headers

HOUR = timedelta(hours=1)


def id_at(moment: timedelta, number: int) -> UUID:
    """An id as it was made so long ago."""
    milliseconds = int((now() - moment).timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | number)


async def enter_silently(database: Database, partnership: Partner, ago: timedelta = HOUR) -> None:
    """What was said with signatures, put into the ledger as the version before did."""
    rows = await run(
        database,
        "SELECT signer FROM signatures s WHERE NOT EXISTS (SELECT FROM consents c WHERE c.signer = s.signer)"
        " ORDER BY signed_at, id",
    )
    for number, row in enumerate(rows):
        await run(
            database,
            "INSERT INTO consents"
            " (id, signer, organization_id, purpose, given, proven, decided_at, petition_id, created_at)"
            " VALUES (:id, :signer, :to, 'news', true, true, now(), :petition, now())",
            id=id_at(ago, number),
            signer=row[0],
            to=partnership.organization_id,
            petition=partnership.petition_id,
        )
    await run(database, "UPDATE signatures SET consents_due = NULL")


async def pulled(client: httpx.AsyncClient, key: Headers) -> list[str]:
    answer = await client.get(f"/v1/partners/{SLUG}/signers", headers=key)
    assert answer.status_code == 200, answer.text
    return [signer["given_name"].removeprefix("Given") for signer in answer.json()["items"]]


@pytest.mark.parametrize("slice_", [1, 2, 5000])
async def test_what_was_entered_by_the_version_before_is_told_and_pulled(
    client: httpx.AsyncClient, database: Database, partnership: Partner, monkeypatch: pytest.MonkeyPatch, slice_: int
) -> None:
    monkeypatch.setattr(backfill, "SLICE", slice_)
    listening = await insert_mute_endpoint(database, partnership.organization_id, "signature.counted")
    for number in range(5):
        await sign_with_consent(client, number)
    await enter_silently(database, partnership)
    walk = Backfill()
    for _ in range(10):
        async with database.transaction() as session:
            await walk.step(session)
        await fan_out_all(database)
    told = [
        signer for data in await pending_data(database, listening, "signature.counted") for signer in data["signatures"]
    ]
    assert [signer["given_name"] for signer in told] == [f"Given{number}" for number in range(5)]
    assert await pulled(client, partnership.key) == ["0", "1", "2", "3", "4"]
    assert len(await pending(database)) == -(-5 // slice_)


async def test_the_command_announces_all_and_the_worker_tells_of_them(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await sign_with_consent(client, 1)
    await enter_silently(database, partnership)
    assert await announce(database) == 1
    await sweep(database)
    assert await announce(database) == 0
    assert await pulled(client, partnership.key) == ["1"]
    assert await run(database, "SELECT 1 FROM outbox_messages") == []


async def test_what_waits_or_is_told_already_is_not_announced_again(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await sign_with_consent(client, 1)
    await enter_silently(database, partnership)
    walk = Backfill()
    for expected in (1, 0, 0):
        async with database.transaction() as session:
            assert len(await walk.step(session)) == expected
    await fan_out_all(database)
    for again in (walk, Backfill()):
        async with database.transaction() as session:
            assert await again.step(session) == []
    assert await run(database, "SELECT 1 FROM outbox_messages") == []


async def test_a_round_that_fails_is_made_up_for(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await sign_with_consent(client, 1)
    await enter_silently(database, partnership)
    walk = Backfill()

    async def step_and_fail() -> None:
        async with database.transaction() as session:
            assert len(await walk.step(session)) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await step_and_fail()
    async with database.transaction() as session:
        assert len(await walk.step(session)) == 1


async def test_what_was_entered_a_moment_ago_is_left_until_it_is_certain_to_have_been_committed(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await sign_with_consent(client, 1)
    await enter_silently(database, partnership, timedelta(minutes=9))
    walk = Backfill()
    async with database.transaction() as session:
        assert await walk.step(session) == []
    await sign_with_consent(client, 2)
    await enter_silently(database, partnership, timedelta(minutes=11))
    async with database.transaction() as session:
        assert len(await walk.step(session)) == 1


async def test_consents_without_a_signature_and_refusals_are_not_announced(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await sign_with_consent(client, 1)
    await enter_silently(database, partnership)
    for number, (given, petition) in enumerate((("false", "petition_id"), ("true", "NULL"))):
        await run(
            database,
            "INSERT INTO consents"
            " (id, signer, organization_id, purpose, given, proven, decided_at, petition_id, created_at)"
            f" SELECT :id, signer, organization_id, purpose, {given}, proven, decided_at, {petition}, created_at"
            " FROM consents WHERE given AND petition_id IS NOT NULL",
            id=id_at(HOUR, 100 + number),
        )
    async with database.transaction() as session:
        assert len(await Backfill().step(session)) == 1


async def test_while_much_waits_to_be_told_the_backfill_waits(
    client: httpx.AsyncClient, database: Database, partnership: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_MANY", 2)
    await sign_with_consent(client, 1)
    await enter_silently(database, partnership)
    await run(
        database,
        "INSERT INTO outbox_messages (type, content, created_at)"
        " SELECT 'petition.closed', jsonb_build_object('petition_id', p.id, 'at', NULL), now()"
        " FROM petitions p, generate_series(1, 2)",
    )
    walk = Backfill()
    async with database.transaction() as session:
        assert await walk.step(session) == []
    assert (walk.is_waiting, walk.is_complete) == (True, False)
    await fan_out_all(database)
    async with database.transaction() as session:
        assert len(await walk.step(session)) == 1
    assert (walk.is_waiting, walk.is_complete) == (False, False)
