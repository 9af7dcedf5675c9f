"""Claiming reads what it takes and little more, however much has been delivered or waits behind another."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.kit.database.session import Database
from app.partners.outbound.delivery.leases import LeasedEndpoint, claim
from app.settings import Settings
from tests.support.databases import run
from tests.support.webhooks import insert_endpoint

ENDPOINTS, EACH = 20, 400
FILL = f"""
    INSERT INTO webhook_messages
        (id, endpoint_id, type, ordered, content, state, due_at, retried_until, attempt_count, created_at)
    SELECT gen_random_uuid(), e.id, 'person.erased', true, '{{}}', CASE WHEN n % 2 = 0 THEN 'due' ELSE 'delivered' END,
        now(), now(), 0, now()
    FROM webhook_endpoints e, generate_series(1, {EACH}) AS n
"""
READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'webhook_messages'"


@pytest.fixture
async def filled(database: Database, settings: Settings) -> None:
    for _ in range(ENDPOINTS):
        await insert_endpoint(database, settings, "https://hooks.example.org/")
    await run(database, FILL)
    await run(database, "ANALYZE webhook_messages")
    await run(database, "ANALYZE webhook_endpoints")


async def claimed(database: Database) -> tuple[list[LeasedEndpoint], int]:
    """What is held, and how many messages were read for it."""
    async with database.transaction() as session:
        before = (await session.execute(text(READ))).scalar_one()
        held = await claim(session, timedelta(seconds=60), limit=5, failing=False)
        return held, int((await session.execute(text(READ))).scalar_one()) - int(before)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE webhook_endpoints SET ordered_due_at = now() + interval '1 h'",
        "UPDATE webhook_messages SET state = 'delivered'",
    ],
)
async def test_what_is_blocked_or_delivered_is_not_read(filled: Any, database: Database, change: str) -> None:
    await run(database, change)
    await run(database, "ANALYZE webhook_messages")
    assert await claimed(database) == ([], 0)


async def test_those_that_have_something_due_are_held_and_what_is_behind_is_not_read(
    filled: Any, database: Database
) -> None:
    held, read = await claimed(database)
    assert [len(one.messages) for one in held] == [200] * 5
    # The first of each endpoint, and what is taken of five.
    assert read <= ENDPOINTS + 5 * 200
