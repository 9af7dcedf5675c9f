"""Once only, whatever happens: the same webhook again gets the same answer and counts nothing."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.secrets.service import add
from app.partners.inbound.services import InboundServices
from app.settings import Settings
from tests.support.application import serving, sweep
from tests.support.databases import run, wait_until
from tests.support.partner_posts import Poster, fresh_id, item, lines, signed, signed_as_bytes
from tests.support.partners import PETITION, Partner, insert_partner, insert_partnership
from tests.support.tallies import dump_signatures, exact_counts

# New ones, somebody twice, and what is refused, in more than one batch.
ITEMS = [item(number % 2_900) for number in range(3_000)]
ITEMS[1_000] = item(1_000, "nowhere")
BODY = lines(*ITEMS)
RUNNING = "SELECT count(*) > 0 FROM received_webhooks WHERE runner IS NOT NULL"


@pytest.fixture
def poster(client: httpx.AsyncClient, partnership: Partner) -> Poster:
    return Poster(client, partnership)


@asynccontextmanager
async def _another_process(settings: Settings, partner: Partner) -> AsyncIterator[Poster]:
    """What another process is to this one: nothing shared but the database."""
    async with serving(settings) as (_, _, client):
        yield Poster(client, partner)


def _bytes_of(answers: list[httpx.Response]) -> bytes:
    """The one answer they all were given."""
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    (content,) = {answer.content for answer in answers}
    return content


async def test_the_same_webhook_again_gets_the_same_answer(
    poster: Poster, settings: Settings, database: Database
) -> None:
    id_ = fresh_id()
    first = await poster.post(BODY, id_=id_)
    assert first.json()["counted"] == 2_899
    before = await dump_signatures(database)
    answers = [first, await poster.post(BODY, id_=id_)]
    packed = gzip.compress(BODY)
    headers = signed_as_bytes(poster.partner.secret, packed, id_) | {"content-encoding": "gzip"}
    answers.append(await poster.send(packed, headers))
    async with _another_process(settings, poster.partner) as another:
        answers.append(await another.post(BODY, id_=id_))
    _bytes_of(answers)
    assert await dump_signatures(database) == before
    assert await exact_counts(database) == {PETITION: 2_899}


async def test_ten_at_once_in_two_processes_count_once(poster: Poster, settings: Settings, database: Database) -> None:
    id_ = fresh_id()
    async with _another_process(settings, poster.partner) as another:
        posters = [poster, another] * 5
        answers = await asyncio.gather(*(one.post(BODY, id_=id_) for one in posters))
    told = json.loads(_bytes_of(answers))
    assert (told["counted"], told["duplicate"], told["refused"]) == (2_899, 100, 1)
    assert await run(database, "SELECT count(*) FROM received_webhooks") == [(1,)]
    assert await exact_counts(database) == {PETITION: 2_899}


async def test_what_is_sent_while_it_is_worked_on_is_not_worked_on_again(
    served: Any, partnership: Partner, database: Database
) -> None:
    begun, ended, brought = asyncio.Event(), asyncio.Event(), 0

    async def bring(_received: Webhook) -> bytes:
        nonlocal brought
        brought += 1
        begun.set()
        await ended.wait()
        return b"{}"

    async def receive() -> bytes:
        return await served.api.state.services.of(InboundServices).receiver.receive(
            partnership.organization_id, "x:1", b"digest", bring
        )

    first = asyncio.create_task(receive())
    await begun.wait()
    others = [asyncio.create_task(receive()) for _ in range(9)]
    # Whoever goes away does not end it.
    first.cancel()
    await asyncio.wait(others, timeout=0.2)
    ended.set()
    assert await asyncio.gather(*others) == [b"{}"] * 9
    assert await receive() == b"{}"
    assert brought == 1


async def test_another_body_under_the_same_id_is_a_conflict_and_counts_nothing(
    poster: Poster, settings: Settings, database: Database
) -> None:
    id_ = fresh_id()
    async with _another_process(settings, poster.partner) as another:
        first = asyncio.create_task(poster.post(BODY, id_=id_))
        await wait_until(database, RUNNING)
        others = [await one.post(lines(item(9_999)), id_=id_) for one in (poster, another)]
        assert (await first).status_code == 200
        others += [await one.post(lines(item(9_999)), id_=id_) for one in (poster, another)]
    for other in others:
        assert (other.status_code, other.json()["type"]) == (409, "urn:multitude:problem:webhook-id-taken")
    assert await exact_counts(database) == {PETITION: 2_899}


async def test_each_partner_has_ids_of_its_own(poster: Poster, settings: Settings, database: Database) -> None:
    organization_id, _ = await insert_partner(database, "others")
    await insert_partnership(database, organization_id, poster.partner.campaign_id)
    async with database.transaction() as session:
        organization = await session.get_one(Organization, organization_id)
        _, secret = await add(session, settings.key_ring, organization, "standard")
    await poster.bring(item(1), id_="msg_1")
    poster.url = "/v1/partners/others/signatures"
    answer = await poster.send(lines(item(2)), signed(secret, lines(item(2)), "msg_1"))
    assert answer.json()["counted"] == 1
    assert await exact_counts(database) == {PETITION: 2}


async def test_what_a_process_left_behind_is_finished_by_the_next_as_it_would_have_been(
    poster: Poster, database: Database
) -> None:
    public = {name: value for name, value in item(5).items() if name not in {"petition", "id"}}
    assert (await poster.client.post(f"/v1/petitions/{PETITION}/signatures", json=public)).status_code == 201
    id_ = fresh_id()
    first = await poster.post(BODY, id_=id_)
    before = await dump_signatures(database)
    # As if whoever worked on it had died after its last commit, without having been able to write the answer down.
    await run(database, "UPDATE received_webhooks SET answer = NULL, answered_at = NULL, runner = 4711")
    assert (await poster.post(BODY, id_=id_)).content == first.content
    assert await dump_signatures(database) == before
    # It is left to those who send the very same.
    await run(database, "UPDATE received_webhooks SET answer = NULL, answered_at = NULL, runner = 4711")
    assert (await poster.post(lines(item(9_999)), id_=id_)).status_code == 409
    assert await dump_signatures(database) == before
    # Or somewhere in between, the petition having been closed since.
    await run(database, "UPDATE received_webhooks SET answer = NULL, answered_at = NULL, runner = 4711")
    await run(database, "UPDATE petitions SET state = 'closed'")
    told = (await poster.post(BODY, id_=id_)).json()
    assert told["counted"] == first.json()["counted"] == 2_898
    assert await exact_counts(database) == {PETITION: 2_899}


async def test_while_the_process_that_works_on_it_lives_others_wait(
    poster: Poster, settings: Settings, database: Database
) -> None:
    id_, body = fresh_id(), lines(item(1))
    await poster.post(body, id_=id_)
    await run(database, "UPDATE received_webhooks SET answer = NULL, answered_at = NULL, runner = 4711")
    living = await Database(settings.database_url.get_secret_value(), name="living").pin()
    await living.fetchval("SELECT pg_advisory_lock(4711)")
    waiting = asyncio.create_task(poster.post(body, id_=id_))
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    assert not done
    # It waits without a transaction: connections are for whoever has something to do.
    await wait_until(database, "SELECT count(*) = 0 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
    assert await run(database, "SELECT runner FROM received_webhooks") == [(4711,)]
    await living.close()
    assert (await waiting).json()["counted"] == 1
    assert await exact_counts(database) == {PETITION: 1}


@asynccontextmanager
async def _failing(database: Database, when: str) -> AsyncIterator[None]:
    """Rows of received webhooks cannot be committed."""
    await run(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'refused' USING ERRCODE = '57P01'; END $$",
    )
    await run(
        database,
        f"CREATE CONSTRAINT TRIGGER refusing AFTER {when} ON received_webhooks"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    try:
        yield
    finally:
        await run(database, "DROP FUNCTION refuse CASCADE")


async def test_nothing_is_brought_before_it_is_claimed(poster: Poster, database: Database) -> None:
    id_ = fresh_id()
    async with _failing(database, "INSERT"):
        assert (await poster.post(BODY, id_=id_)).status_code == 503
    assert await exact_counts(database) == {PETITION: 0}
    assert (await poster.post(BODY, id_=id_)).json()["counted"] == 2_899


async def test_an_answer_that_cannot_be_kept_is_not_given(
    poster: Poster, settings: Settings, database: Database
) -> None:
    id_ = fresh_id()
    async with _failing(database, "UPDATE"):
        answer = await poster.post(BODY, id_=id_)
        assert answer.status_code == 503
        assert "counted" not in answer.text
    assert await exact_counts(database) == {PETITION: 2_899}
    # It could not even be let go: another process may take it all the same.
    async with _another_process(settings, poster.partner) as another:
        told = await another.post(BODY, id_=id_)
    assert told.json()["counted"] == 2_899
    assert (await poster.post(BODY, id_=id_)).content == told.content
    assert await exact_counts(database) == {PETITION: 2_899}


async def test_what_cannot_be_brought_can_be_brought_later(
    poster: Poster, settings: Settings, database: Database
) -> None:
    id_ = fresh_id()
    await run(database, "ALTER TABLE signature_tallies RENAME TO elsewhere")
    impatient = settings.model_copy(update={"commit_patience_seconds": 0.1})
    async with _another_process(impatient, poster.partner) as another:
        assert (await another.post(lines(item(1)), id_=id_)).status_code == 503
        await run(database, "ALTER TABLE elsewhere RENAME TO signature_tallies")
        assert await run(database, "SELECT runner, answer FROM received_webhooks") == [(None, None)]
        assert (await poster.post(lines(item(1)), id_=id_)).json()["counted"] == 1
    assert await exact_counts(database) == {PETITION: 1}


async def test_what_is_kept_of_a_webhook_names_nobody(poster: Poster, database: Database) -> None:
    await poster.bring(*(item(number) for number in range(50)), id_="msg_of_somebody")
    (row,) = await run(database, "SELECT * FROM received_webhooks")
    for told in (b"msg_of_somebody", b"counted", b"crm:1", b"person.1"):
        assert not [value for value in row if isinstance(value, bytes) and told in value]


async def test_after_30_days_it_is_forgotten(poster: Poster, database: Database) -> None:
    for id_, days in (("msg_old", 31), ("msg_young", 29)):
        await poster.bring(item(1), id_=id_)
        at = now() - timedelta(days=days)
        await run(
            database, "UPDATE received_webhooks SET received_at = :at WHERE received_at > now() - interval '1 d'", at=at
        )
    await sweep(database)
    assert await run(database, "SELECT count(*) FROM received_webhooks") == [(1,)]
    (again,) = await poster.bring(item(1), id_="msg_old")
    assert again["status"] == "duplicate"
    assert await exact_counts(database) == {PETITION: 1}
