"""The outbox: in order, whatever stands in it and however much of it."""

import asyncio
from uuid import UUID

import httpx
import pytest

from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.partners.outbound.message_types import fan_out
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.outbox import (
    about,
    erasure,
    fan_out_all,
    insert_mute_endpoint,
    pending,
    pending_types,
    publish_all,
    sign_with_consent,
    spread,
    withdrawal,
)
from tests.support.partners import Partner

_POISON = {
    "an unknown type": ("event.held", "NULL", "{}"),
    "a missing key": ("petition.closed", "NULL", "{}"),
    "no id": ("petition.published", "NULL", '{"petition_id": "x", "at": null}'),
    "no object": ("petition.published", "NULL", '["petition_id"]'),
    "no consent": ("consent.given", ":to", '{"consent_id": "x"}'),
    "no ids": ("person.erased", ":to", '{"person_id": "per_", "signature_ids": "x", "at": "2026-11-22T00:00:00Z"}'),
    "no answer": (
        "signature.withdrawn",
        ":to",
        f'{{"petition_id": "{UUID(int=1)}", "signature_id": "{UUID(int=2)}", "person_id": "", "brought": "maybe"}}',
    ),
    "nobody": ("consent.given", "NULL", f'{{"consent_id": "{UUID(int=1)}"}}'),
}


@pytest.mark.parametrize("poison", _POISON)
async def test_what_makes_no_sense_is_set_aside_and_holds_nobody_up(
    client: httpx.AsyncClient, database: Database, partnership: Partner, poison: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    type_, to, content = _POISON[poison]
    values = {"to": partnership.organization_id} if to == ":to" else {}
    await run(
        database,
        "INSERT INTO outbox_messages (type, organization_id, content, created_at)"
        f" VALUES (:type, {to}, CAST(:content AS jsonb), now())",
        type=type_,
        content=content,
        **values,
    )
    await sign_with_consent(client, 1)
    await publish_all(database, about("petition.closed", partnership.petition_id))
    await sweep(database)
    assert await run(database, "SELECT 1 FROM outbox_messages") == []
    assert await pending_types(database, listening) == ["petition.closed", "signature.counted"]
    logged = capsys.readouterr()
    assert "outbox message cannot be understood" in logged.out + logged.err


async def test_messages_are_due_in_the_order_in_which_they_were_announced_whatever_the_clock_of_a_worker(
    database: Database, partnership: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    monkeypatch.setattr(fan_out, "BATCH", 1)
    types = ["petition.closed", "person.erased", "signature.withdrawn", "petition.published"]
    said = {
        "petition.closed": about("petition.closed", partnership.petition_id),
        "person.erased": erasure(partnership.organization_id),
        "signature.withdrawn": withdrawal(partnership.petition_id, partnership.organization_id, brought=True),
        "petition.published": about("petition.published", partnership.petition_id),
    }
    await publish_all(database, *(said[type_] for type_ in types))
    # Each by a worker whose clock is further behind.
    ids = iter(sorted((uuid7() for _ in types), reverse=True))
    monkeypatch.setattr(fan_out, "uuid7", lambda: next(ids))
    await fan_out_all(database)
    order = "SELECT type FROM webhook_messages WHERE endpoint_id = :id ORDER BY due_at, id"
    assert [row[0] for row in await run(database, order, id=listening)] == types
    moments = "SELECT bool_and(due_at = created_at AND retried_until > created_at) FROM webhook_messages"
    assert (await run(database, moments))[0][0]


async def consent_many(database: Database, partnership: Partner, count: int) -> None:
    """So many consents that were announced and not told of yet."""
    await run(
        database,
        "INSERT INTO consents"
        " (id, signer, organization_id, purpose, given, proven, decided_at, petition_id, created_at)"
        " SELECT gen_random_uuid(), substr(sha256(n::text::bytea), 1, 16), :to, 'news', true, true, now(), :petition,"
        f" now() FROM generate_series(1, {count}) AS n",
        to=partnership.organization_id,
        petition=partnership.petition_id,
    )
    await run(
        database,
        "INSERT INTO outbox_messages (type, organization_id, content, created_at)"
        " SELECT 'consent.given', organization_id, jsonb_build_object('consent_id', id), now() FROM consents",
    )


async def test_a_backlog_of_twenty_thousand_is_spread_to_several_endpoints_in_seconds(
    database: Database, partnership: Partner
) -> None:
    for _ in range(5):
        await insert_mute_endpoint(database, partnership.organization_id)
    await consent_many(database, partnership, 20_000)
    async with asyncio.timeout(30):
        while await run(database, "SELECT 1 FROM outbox_messages LIMIT 1"):
            await sweep(database)
    numbers = await run(database, "SELECT count(DISTINCT number), count(*) FROM signer_feed_entries")
    assert tuple(numbers[0]) == (20_000, 20_000)
    assert len(await pending(database)) == 5 * 20_000 / 500


async def test_of_a_backlog_only_a_little_is_kept_from_being_erased_at_a_time(
    database: Database, partnership: Partner
) -> None:
    await consent_many(database, partnership, 1200)
    connection = await database.pin()
    try:
        async with database.transaction() as session:
            assert len(await spread(session)) == fan_out.BATCH
            free = await connection.fetch("SELECT id FROM consents FOR UPDATE SKIP LOCKED")
        assert len(free) == 1200 - 500
    finally:
        await connection.close()
