"""A partner's webhook and `kill -9` in the middle of it: counted once, and answered as it would have been."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest

from app.campaigns.models import Campaign
from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.kit.webhooks import signing as webhooks
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import add, key_of
from app.partners.models import Partnership
from app.people.fields.emails import canonical
from app.people.pseudonyms import signature_id
from app.petitions.models import Petition
from app.signatures.engine.bulk import BATCH_LIMIT
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, person
from tests.support.services import Service
from tests.support.tallies import exact_counts

pytestmark = pytest.mark.process


SECRET = "a-secret-that-is-only-for-tests-0002"
RING = KeyRing.parse(SECRET)
# Three batches, with somebody twice.
ITEMS = [
    {**person(number % (3 * BATCH_LIMIT - 7)), "petition": "end-the-ban"}
    for number in range(min(3 * BATCH_LIMIT, 10_000))
]
BODY = b"\n".join(json.dumps(item).encode() for item in ITEMS)
PEOPLE = len({item["email"] for item in ITEMS})
# Somebody in the last batch.
LATE = 2 * BATCH_LIMIT + 5


@pytest.fixture
def confirmation() -> str:
    return "none"


@pytest.fixture
async def petition_id(database: Database, confirmation: str) -> UUID:
    return await insert_petition(database, confirmation=confirmation)


@pytest.fixture
async def secret(database: Database, petition_id: UUID) -> str:
    """The secret of `sisters-of-kampala`, who may feed the petition."""
    async with database.transaction() as session:
        petition = await session.get_one(Petition, petition_id)
        campaign = await session.get_one(Campaign, petition.campaign_id)
        organization = Organization(slug="sisters-of-kampala", name="Sisters of Kampala", kind="partner")
        session.add(organization)
        await session.flush()
        session.add(
            Partnership(
                organization_id=organization.id,
                campaign_id=campaign.id,
                state="active",
                terms="Tell people what they sign.",
                petition_ids=None,
                consents=[],
                receives_signers=False,
                default_country=None,
                invited_by=organization.id,
            )
        )
        _, text = await add(session, RING, organization, "standard")
    return text


def _service(url: str) -> Service:
    return Service("serve", settings={"DATABASE_URL": url, "MULTITUDE_SECRET_KEYS": SECRET})


async def _ready(service: Service) -> Service:
    return await asyncio.to_thread(service.wait_until_ready)


async def _post(service: Service, secret: str, body: bytes = BODY) -> httpx.Response:
    """The same webhook, sent to this process."""
    timestamp = int(time.time())
    headers = {
        "content-type": "application/x-ndjson",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": webhooks.sign([key_of(secret)], "msg_1", timestamp, body),
    }
    async with httpx.AsyncClient() as client:
        return await client.post(
            f"{service.url}/v1/partners/sisters-of-kampala/signatures", content=body, headers=headers, timeout=60
        )


@asynccontextmanager
async def _held_up(database: Database, petition_id: UUID) -> AsyncIterator[None]:
    """Whoever brings the late one waits: somebody else is just signing as them, and will not finish."""
    connection = await database.pin()
    signer = RING.digest(canonical(ITEMS[LATE]["email"]))
    signing = connection.transaction()
    await signing.start()
    try:
        await connection.execute(
            "INSERT INTO signatures (petition_id, signer, id, signed_at, country, state, region, source, sealed)"
            " VALUES ($1, $2, $3, $4, 'UG', 'confirmed', '', '', '')",
            petition_id,
            signer,
            uuid7(),
            now(),
        )
        yield
    finally:
        await signing.rollback()
        await connection.close()


async def _counted(database: Database) -> None:
    await wait_until(database, f"SELECT count(*) = {2 * BATCH_LIMIT} FROM signatures")


async def _as_it_would_have_been(database: Database, answer: httpx.Response, status: str = "counted") -> None:
    """Everything is counted once, and answered as if nothing had happened."""
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told[status], told["duplicate"]) == (PEOPLE, len(ITEMS) - PEOPLE)
    assert [result["status"] for result in told["results"]] == [status] * PEOPLE + ["duplicate"] * (len(ITEMS) - PEOPLE)
    ids = {result["signature_id"] for result in told["results"] if result["status"] == status}
    rows = await run(database, "SELECT id, partner_id FROM signatures")
    assert ids == {signature_id(RING, partner_id, id_) for id_, partner_id in rows}
    assert await exact_counts(database) == {"end-the-ban": PEOPLE if status == "counted" else 0}


async def test_a_webhook_killed_in_the_middle_is_finished_when_it_is_sent_again(
    url: str, database: Database, petition_id: UUID, secret: str
) -> None:
    with _service(url) as first:
        await _ready(first)
        async with _held_up(database, petition_id):
            broken = asyncio.create_task(_post(first, secret))
            await _counted(database)
            first.kill()
        with pytest.raises(httpx.TransportError):
            await broken
    await wait_until(database, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1")
    assert await exact_counts(database) == {"end-the-ban": 2 * BATCH_LIMIT}
    with _service(url) as second:
        await _ready(second)
        assert (await _post(second, secret, BODY + b"\n")).status_code == 409
        answer = await _post(second, secret)
        await _as_it_would_have_been(database, answer)
        assert (await _post(second, secret)).content == answer.content
        assert "example.org" not in second.errors()
        assert second.end() == 0
    with _service(url) as third:
        await _ready(third)
        assert (await _post(third, secret)).content == answer.content
    await _as_it_would_have_been(database, answer)


@pytest.mark.parametrize(("confirmation", "status"), [("none", "counted"), ("email", "pending")])
async def test_a_process_that_waits_takes_over_from_one_that_is_killed(
    url: str, database: Database, petition_id: UUID, secret: str, status: str
) -> None:
    with _service(url) as first, _service(url) as second:
        await _ready(first)
        await _ready(second)
        async with _held_up(database, petition_id):
            broken = asyncio.create_task(_post(first, secret))
            await _counted(database)
            waiting = [asyncio.create_task(_post(second, secret)) for _ in range(3)]
            done, _ = await asyncio.wait(waiting, timeout=1)
            assert not done
            first.kill()
        with pytest.raises(httpx.TransportError):
            await broken
        answers = await asyncio.gather(*waiting)
        assert len({answer.content for answer in answers}) == 1
        await _as_it_would_have_been(database, answers[0], status)
        assert "example.org" not in second.errors()
