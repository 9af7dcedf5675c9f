"""Of a signature everybody is told an id of their own: no two copies, and no copy and a dump, can be joined by it."""

import json
import zlib
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.partners.sealing import answers_identity
from app.people.account.sessions import begin
from app.people.consents import service as consents
from app.people.pseudonyms import own_signature_id, signature_id
from app.people.sealing import Details
from tests.support.application import sweep
from tests.support.attempts import attempt_id, told_id
from tests.support.databases import run
from tests.support.factories import person
from tests.support.mailed_links import sign_and_prove
from tests.support.outbox import (
    erasure,
    fan_out_all,
    insert_mute_endpoint,
    pending_data,
    publish_all,
    sign_with_consent,
    signer_of,
    withdrawal,
)
from tests.support.partner_posts import Poster, item, lines
from tests.support.partners import PETITION, SLUG, Partner, insert_partner, insert_partnership
from tests.support.settings import RING

TO_BOTH = [{"organization": SLUG, "given": True}, {"organization": "others", "given": True}]
# Times and ids of the rows about a person, but for when a mail is tried, which goes with the mail.
COLUMNS = """
    SELECT c.table_name, c.column_name FROM information_schema.columns c
    WHERE c.table_schema = 'public' AND (c.table_name IN ('received_webhooks', 'outbox_messages') OR EXISTS (
        SELECT FROM information_schema.columns s WHERE s.table_name = c.table_name AND s.column_name = 'signer'
    ))
    AND (c.data_type LIKE 'timestamp%' OR c.column_name IN ('id', 'attempt_id') AND c.data_type = 'uuid')
    AND c.column_name NOT IN ('mail_due_at', 'mail_since', 'due_at')
"""


@pytest.fixture
async def others(database: Database, partnership: Partner) -> UUID:
    """Another partner, who receives signers of the same campaign."""
    other_id, _ = await insert_partner(database, "others")
    await insert_partnership(database, other_id, partnership.campaign_id)
    return other_id


async def tables(database: Database, *more: str) -> list[str]:
    rows = await run(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return [row.tablename for row in rows if row.tablename not in more]


async def dumped(database: Database, *left_out: str) -> str:
    """All rows as text."""
    found = []
    for table in await tables(database, *left_out):
        found += [row[0] for row in await run(database, f"SELECT t::text FROM {table} AS t")]
    return "\n".join(found)


def test_a_pseudonym_is_a_uuid_of_version_8_for_each_organization_and_stays_what_it_is() -> None:
    one, two, id_, other = (uuid7() for _ in range(4))
    made = {signature_id(RING, organization, raw) for organization in (one, two) for raw in (id_, other)}
    assert len(made | {own_signature_id(RING, id_), own_signature_id(RING, other)}) == 6
    for pseudonym in map(UUID, made):
        assert (pseudonym.version, pseudonym.variant) == (8, id_.variant)
        assert signature_id(RING, one, pseudonym) == str(pseudonym)
    assert signature_id(RING, one, id_) in made


async def test_what_two_partners_a_signer_and_a_dump_hold_cannot_be_joined(
    client: httpx.AsyncClient, database: Database, partnership: Partner, others: UUID
) -> None:
    endpoints = [await insert_mute_endpoint(database, id_) for id_ in (partnership.organization_id, others)]
    (brought,) = await Poster(client, partnership).bring(item(1, consents=TO_BOTH[:1]))
    signed = await sign_and_prove(client, PETITION, person(2, consents=TO_BOTH))
    await sweep(database)
    mine, theirs = [
        [one["signature_id"] for data in await pending_data(database, id_, "signature.counted")
         for one in data["signatures"]]
        for id_ in endpoints
    ]  # fmt: skip
    fed = (await client.get(f"/v1/partners/{SLUG}/signers", headers=partnership.key)).json()["items"]
    async with database.transaction() as session:
        key = (await begin(session, RING, signer_of(2), Details(person(2)["email"]))).key
    me = {"Authorization": f"Bearer {key}"}
    (own,) = (await client.get("/v1/me/signatures", headers=me)).json()["items"]
    exported = (await client.get("/v1/me/export", headers=me)).text
    assert sorted(mine) == sorted(one["signature_id"] for one in fed)
    assert brought["signature_id"] in mine
    assert len(mine) == 2
    assert len(theirs) == 1
    assert own["id"] == signed["id"]
    told = {*mine, *theirs, signed["id"]}
    assert len(told) == 4, "each has its own"
    dump, kept = await dumped(database), [row.id for row in await run(database, "SELECT id FROM signatures")]
    assert len(kept) == 2
    for id_ in told:
        assert UUID(id_).version == 8
        assert id_ not in dump
    for raw in kept:
        assert str(raw) not in json.dumps([brought, signed, mine, theirs, fed, own]) + exported


@pytest.mark.parametrize(
    "body", ['{{"results":[{{"index":0,"signature_id":"{}"}}]}}', '{{"identifiers":["a:1","multitude:{}"]}}']
)
async def test_an_answer_that_the_version_before_has_kept_is_given_again_with_the_pseudonym(
    client: httpx.AsyncClient, database: Database, partnership: Partner, body: str
) -> None:
    poster, raw = Poster(client, partnership), uuid7()
    first = await poster.post(lines(item(1)), id_="msg_before")
    assert first.status_code == 200
    (row,) = await run(database, "SELECT id, answer FROM received_webhooks")
    kept = RING.open(row.answer, answers_identity(row.id))
    assert len(kept) % 64 == 0
    assert zlib.decompress(kept) == first.content
    former = RING.seal(zlib.compress(body.format(raw).encode()), answers_identity(row.id))
    await run(database, "UPDATE received_webhooks SET answer = :former", former=former)
    again = await poster.post(lines(item(1)), id_="msg_before")
    assert again.text == body.format(told_id(partnership.organization_id, raw))


async def test_what_the_version_before_has_announced_is_told_with_the_pseudonym(
    database: Database, partnership: Partner
) -> None:
    listening, to, raw = (
        await insert_mute_endpoint(database, partnership.organization_id),
        partnership.organization_id,
        uuid7(),
    )
    withdrawn = withdrawal(partnership.petition_id, to, brought=True)
    withdrawn.content["signature_id"] = str(raw)  # type: ignore[index]
    told = told_id(to, raw)
    await publish_all(database, withdrawn, erasure(to, raw), erasure(to, UUID(told)))
    await fan_out_all(database)
    (withdrawal_,) = await pending_data(database, listening, "signature.withdrawn")
    (erased,) = await pending_data(database, listening, "person.erased")
    assert (withdrawal_["signature_id"], erased["signature_ids"]) == (told, [told])


async def test_a_withdrawal_is_kept_by_its_pseudonym_alone(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await insert_mute_endpoint(database, partnership.organization_id)
    signed = await sign_with_consent(client, 1)
    await sweep(database)
    id_ = attempt_id(partnership.petition_id, signed)
    await client.post(signed["links"]["withdraw"], json={"receipt": signed["receipt"]})
    await sweep(database)
    rows = await run(database, "SELECT content FROM webhook_messages WHERE type = 'signature.withdrawn'")
    assert [row.content["signature_id"] for row in rows] == [told_id(partnership.organization_id, id_)]
    messages = await run(database, "SELECT content::text FROM webhook_messages")
    assert str(id_) not in str(messages)


async def test_of_what_a_person_did_a_dump_tells_the_second_and_no_more(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await Poster(client, partnership).bring(item(1, consents=TO_BOTH[:1]), item(2))
    await sign_with_consent(client, 2)
    await sign_with_consent(client, 2, country="FR")
    await sweep(database)
    await client.post("/v1/sign-ins", json={"email": person(2)["email"]})
    async with database.transaction() as session:
        key = (await begin(session, RING, signer_of(2), Details(person(2)["email"]))).key
        await consents.decide(session, RING, signer_of(2), partnership.organization_id, "news", given=False)
    assert (await client.get("/v1/me", headers={"Authorization": f"Bearer {key}"})).status_code == 200
    looked_at: dict[str, int] = {}
    columns = await run(database, COLUMNS)
    for table, column in columns:
        for (value,) in await run(database, f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"):
            looked_at[table] = looked_at.get(table, 0) + 1
            assert _is_of_a_second(value), (table, column, value)
    assert looked_at.keys() >= {
        "signatures", "signature_attempts", "consents", "people", "contacts", "sign_ins", "person_sessions", "mails",
        "received_webhooks",
    }  # fmt: skip
    numbers = [row.number for row in await run(database, "SELECT number FROM signer_feed_entries ORDER BY number")]
    assert len(numbers) > 1
    assert all(number % 1_000_000 < 100 for number in numbers)


def _is_of_a_second(value: Any) -> bool:
    return (value.int >> 80) % 1000 == 0 if isinstance(value, UUID) else value.microsecond == 0
