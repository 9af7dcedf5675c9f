"""How fast the worker delivers webhooks, one of the endpoints hanging, and that each comes."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

import asyncpg

from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.partners.outbound.endpoints.sealed_config import EndpointConfig, new_secret, seal_config
from bench.rows import Row, at_least, at_most
from bench.scenarios import Bench
from bench.webhook_sink import HANG, WebhookSink, receiving
from bench.workers import watch, working
from tests.support.postgres import SqlDatabase

_ENDPOINTS = 50
_EACH = 1000
# One of ten is of a type whose order is kept.
_MESSAGES = """
    INSERT INTO webhook_messages
        (id, endpoint_id, type, ordered, content, state, due_at, retried_until, attempt_count, created_at)
    SELECT gen_random_uuid(), e.id,
        CASE WHEN n % 10 = 0 THEN 'person.erased' ELSE 'petition.published' END,
        n % 10 = 0,
        CASE WHEN n % 10 = 0
            THEN jsonb_build_object('person_id', repeat('0', 32), 'signature_ids', '[]'::jsonb, 'at', now())
            ELSE jsonb_build_object('petition_id', p.id, 'at', now()) END,
        'due', now(), now() + interval '3 days', 0, now()
    FROM webhook_endpoints e, petitions p, generate_series(1, $EACH) AS n WHERE p.slug = 'p0'
"""
_ENDPOINT = """
    INSERT INTO webhook_endpoints
        (id, organization_id, sealed, types, state, failure_count, mail_count, created_at, updated_at)
    VALUES ($1, $2, $3, ARRAY['petition.published', 'person.erased'], 'active', 0, 0, now(), now())
"""
_RECORDED = "SELECT count(*) FROM webhook_messages WHERE state = 'delivered' AND attempt_count = 1"


def deliveries(bench: Bench) -> Iterator[Row]:
    """`multitude worker` posts to a receiver on the same machine; one endpoint reads and never answers."""
    expected = (_ENDPOINTS - 1) * _EACH
    with bench.services.database("deliveries") as database, receiving(bench.folder / "webhooks.txt") as sink:
        asyncio.run(_plant(database, KeyRing.parse(bench.services.secret), sink))
        with working(bench, database, MULTITUDE_WEBHOOK_LOOPBACK="true") as worker:
            highest = watch(bench, worker, sink.count, expected, "webhooks")
        if worker.returncode:
            raise RuntimeError(f"the worker ended with status {worker.returncode}")
        recorded = database.value(_RECORDED)
    got = sink.ids()
    note = (
        f"{got.total():,} webhooks, {_ENDPOINTS} endpoints, one hanging; the worker took {highest:.0f} MiB at the most"
    )
    yield Row("webhooks a second, worker to a local receiver", sink.per_second(), "/s", at_least(2000), note)
    note = f"{expected:,} webhooks; {sum(count > 1 for count in got.values())} came more than once"
    yield Row("webhooks that never came, or are not recorded", 2 * expected - len(got) - recorded, "", at_most(0), note)


async def _plant(database: SqlDatabase, ring: KeyRing, sink: WebhookSink) -> None:
    """Endpoints of the movement, and what is due to them."""
    connection = await asyncpg.connect(database.url)
    organization = await connection.fetchval("SELECT id FROM organizations WHERE kind = 'movement'")
    rows = [_endpoint(ring, organization, sink, number) for number in range(_ENDPOINTS)]
    await connection.executemany(_ENDPOINT, rows)
    # That the petitions of the bench are published is no news.
    await connection.execute("DELETE FROM outbox_messages")
    await connection.execute(_MESSAGES.replace("$EACH", str(_EACH)))
    await connection.execute("ANALYZE webhook_messages")
    await connection.close()


def _endpoint(ring: KeyRing, organization: UUID, sink: WebhookSink, number: int) -> tuple[UUID, UUID, bytes]:
    id_ = uuid7()
    url = sink.url(HANG if number == 0 else f"/{number}")
    return id_, organization, seal_config(ring, id_, EndpointConfig(url, (new_secret(),), None))
