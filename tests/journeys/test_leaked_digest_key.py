"""The digest key has leaked: everybody gets another digest, nobody notices, and the leaked key tells nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from app.commands.digest_rotation import rotate
from app.kit.crypto import digest_rotation
from app.kit.crypto.digest_rotation import DigestRotationError, KeyMissingError
from app.kit.crypto.key_ring_guard import DigestRotationUnfinishedError, KeyRingMismatchError
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.room_interface import digested_tables_of
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import add
from app.people.fields.emails import canonical
from app.rooms import ROOMS, metadata
from app.settings import Settings
from app.signatures.signing import email_domains
from tests.support.application import Served, running_worker, serving
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, person
from tests.support.partner_posts import Poster, item
from tests.support.partners import PETITION, SLUG, Partner, campaign_of, insert_partner, insert_partnership
from tests.support.settings import settings_for
from tests.support.smtp import SmtpServer
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json

WRAPPING = "Yq3bW8sKx0Zr5Nf7Lm2Tc9Hd4Vj6Pg1A"
AGAIN = "Uo7eR2iJ5kD9wX3zQ8nB6tM1yS4vC0hL"
MAIL, BROUGHT = "by-mail", "msg_brought_once"
_ENTERED = "SELECT count(*) = 0 FROM signatures WHERE consents_due AND state = 'confirmed'"


@pytest.fixture
def mailbox() -> Iterator[SmtpServer]:
    with SmtpServer() as mailbox:
        yield mailbox


@pytest.fixture
def before(own_url: str) -> Settings:
    return settings_for(own_url)


@pytest.fixture
def after(own_url: str) -> Settings:
    return settings_for(own_url, digest_wrapping_keys=WRAPPING)


async def link_of(mailbox: SmtpServer, already: int, page: str, number: int) -> str:
    """The token of the link to this page in the first mail to this person after those; others may come between."""
    count, to = already, person(number)["email"]
    while True:
        count += 1
        for mail in (await mailbox.arrived(count))[already:]:
            if mail.to == to and f"/{page}?" in mail.links[0]:
                return mail.links[0].partition("token=")[2]


async def sign(served: Served, number: int, petition: str = PETITION, **more: object) -> Json:
    answer = await served.client.post(f"/v1/petitions/{petition}/signatures", json=person(number, **more))
    assert answer.status_code == 201, answer.text
    signed: Json = answer.json()
    return signed


async def confirm(served: Served, token: str) -> int:
    return (await served.client.post("/v1/confirmations", json={"token": token, "consents": [0]})).status_code


async def sign_in(served: Served, mailbox: SmtpServer) -> Headers:
    already = len(mailbox.mails)
    asked = (await served.client.post("/v1/sign-ins", json={"email": person(1)["email"]})).json()
    token = await link_of(mailbox, already, "sign-in", 1)
    told = await served.client.post("/v1/sessions", json={"token": token, "binding": asked["binding"]})
    assert told.status_code == 201, told.text
    return {"Authorization": f"Bearer {told.json()['key']}"}


async def found_partner(database: Database, settings: Settings) -> Partner:
    petition_id = await insert_petition(database, PETITION)
    campaign_id = await campaign_of(database, petition_id)
    organization_id, key = await insert_partner(database, SLUG)
    partnership_id = await insert_partnership(database, organization_id, campaign_id)
    async with database.transaction() as session:
        organization = await session.get_one(Organization, organization_id)
        added, secret = await add(session, settings.key_ring, organization, "standard")
    campaign = f"campaign-of-{PETITION}"
    ids = (organization_id, SLUG, key, secret, added.id, campaign, campaign_id, PETITION, petition_id, partnership_id)
    return Partner(*ids)


@dataclass
class Story:
    """What people have in their hands when the key is exchanged."""

    partner: Partner
    me: Headers
    receipt: str
    link: str
    results: list[Json]
    fed: list[Json]
    mine: Json


async def _looked_at(served: Served, me: Headers) -> Json:
    paths = ("/v1/me", "/v1/me/signatures", "/v1/me/consents")
    return {path: (await served.client.get(path, headers=me)).json() for path in paths}


async def _fed(served: Served, partner: Partner) -> list[Json]:
    people: list[Json] = (await served.client.get(f"/v1/partners/{SLUG}/signers", headers=partner.key)).json()["items"]
    return people


async def live(served: Served, database: Database, settings: Settings, mailbox: SmtpServer) -> Story:
    """Sign, confirm, consent, sign in, withdraw; and a partner brings two."""
    await insert_petition(database, MAIL, confirmation="email")
    partner = await found_partner(database, settings)
    await sign(served, 1, MAIL, consents=[{"organization": "movement", "given": True}])
    assert await confirm(served, await link_of(mailbox, 0, "confirm", 1)) == 200
    await sign(served, 2, consents=[{"organization": SLUG, "given": True}])
    followed = {"token": await link_of(mailbox, 0, "confirm", 2), "consents": [0]}
    receipt = (await served.client.post("/v1/confirmations", json=followed)).json()["receipt"]
    already = len(mailbox.mails)
    await sign(served, 3, consents=[{"organization": "movement", "given": True}])
    followed = {"token": await link_of(mailbox, already, "confirm", 3)}
    gone = (await served.client.post("/v1/confirmations", json=followed)).json()["receipt"]
    await served.client.post(f"/v1/petitions/{PETITION}/withdrawals", json={"receipt": gone})
    results = await Poster(served.client, partner).bring(item(5), item(6), id_=BROUGHT)
    await wait_until(database, _ENTERED, 10)
    await wait_until(database, "SELECT count(*) = 2 FROM signer_feed_entries", 10)
    me = await sign_in(served, mailbox)
    already = len(mailbox.mails)
    await sign(served, 4, MAIL)
    link = await link_of(mailbox, already, "confirm", 4)
    mine = await _looked_at(served, me)
    assert len(mine["/v1/me/consents"]["items"]) == 1
    return Story(partner, me, receipt, link, results, await _fed(served, partner), mine)


async def rows_of(url: str) -> dict[str, list[Any]]:
    """Every table that holds digests, as it stands."""
    connection = await asyncpg.connect(url)
    try:
        return {
            table.table: await connection.fetch(f"SELECT * FROM {table.table}") for table in digested_tables_of(ROOMS)
        }
    finally:
        await connection.close()


def digests_in(rows: dict[str, list[Any]]) -> set[bytes]:
    columns = {table.table: [*table.digests, *table.short_digests] for table in digested_tables_of(ROOMS)}
    return {row[name] for table, found in rows.items() for row in found for name in columns[table] if row[name]}


@pytest.fixture
async def story(own_url: str, before: Settings, mailbox: SmtpServer) -> Story:
    """All of it told with the key that will leak; then everything is stopped."""
    database = Database(own_url, name="test")
    try:
        async with serving(before) as served, running_worker(before, smtp_url=SecretStr(mailbox.url)):
            told = await live(served, database, before, mailbox)
            # Nobody's digests change under a service that runs.
            with pytest.raises(DigestRotationError, match="Stop every process"):
                await rotate(settings_for(own_url, digest_wrapping_keys=WRAPPING))
    finally:
        await database.close()
    return told


async def test_everybody_is_still_who_they_were_and_the_leaked_key_finds_nobody(
    own_url: str, before: Settings, after: Settings, mailbox: SmtpServer, story: Story
) -> None:
    was = await rows_of(own_url)
    done = await rotate(after)
    assert done == {"rows": sum(map(len, was.values())), "unreadable": 0}
    now = await rows_of(own_url)
    assert {table: len(rows) for table, rows in now.items()} == {table: len(rows) for table, rows in was.items()}
    assert digests_in(was) & digests_in(now) == set()
    leaked = {before.key_ring.digest(canonical(person(number)["email"])) for number in range(1, 7)}
    assert leaked <= digests_in(was)
    assert {row["domain_digest"] for row in now["signatures"] if row["domain_digest"]} == {
        email_domains.digest(after.key_ring, "example.org")
    }
    assert await rotate(after) == {"rows": 0, "unreadable": 0}
    with pytest.raises(KeyRingMismatchError):
        async with serving(before):
            pass
    await _go_on(own_url, after, mailbox, story)


async def _go_on(url: str, settings: Settings, mailbox: SmtpServer, story: Story) -> None:
    """Everything that was in people's hands still works, and nobody counts twice."""
    database = Database(url, name="test")
    try:
        async with serving(settings) as served, running_worker(settings, smtp_url=SecretStr(mailbox.url)):
            assert await exact_counts(database) == {MAIL: 1, PETITION: 3}
            for number in (2, 5, 6):
                await sign(served, number)
            await sign(served, 1, MAIL)
            assert await exact_counts(database) == {MAIL: 1, PETITION: 3}
            assert await _looked_at(served, story.me) == story.mine
            assert await _fed(served, story.partner) == story.fed
            assert await Poster(served.client, story.partner).bring(item(5), item(6), id_=BROUGHT) == story.results
            # She has withdrawn, and nothing but her digest is kept of her: still nobody brings her back.
            brought = await Poster(served.client, story.partner).bring(item(3))
            assert [result["status"] for result in brought] == ["duplicate"]
            assert await exact_counts(database) == {MAIL: 1, PETITION: 3}
            assert await confirm(served, story.link) == 200
            await sign(served, 3)
            assert await exact_counts(database) == {MAIL: 2, PETITION: 3}, "she has to prove it"
            withdrawn = await served.client.post(
                f"/v1/petitions/{PETITION}/withdrawals", json={"receipt": story.receipt}
            )
            assert withdrawn.json() == {"status": "withdrawn"}
            again = await sign_in(served, mailbox)
            path = f"/v1/me/signatures/{MAIL}/withdraw"
            assert (await served.client.post(path, headers=again)).status_code == 200
            assert await exact_counts(database) == {MAIL: 1, PETITION: 2}
            with pytest.raises(DBAPIError, match="only ever appended to"):
                await run(database, "UPDATE consents SET given = NOT given")
    finally:
        await database.close()


async def test_whoever_is_interrupted_goes_on_and_meanwhile_nobody_starts(
    own_url: str, before: Settings, after: Settings, mailbox: SmtpServer, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_rotation, "SLICE", 1)
    was, tables = await rows_of(own_url), digested_tables_of(ROOMS)
    most = sum(map(len, was.values()))
    for stopped_after in (0, 1, 3, most - 6):
        connection = await Database(own_url, name="digest rotation").pin()
        assert await digest_rotation.prepare(connection, after.key_ring, tables)
        slices = digest_rotation.carry_out(connection, after.key_ring, tables)
        for _ in range(stopped_after):
            await anext(slices)
        await slices.aclose()
        await connection.close()
        for settings in (before, after):
            with pytest.raises(DigestRotationUnfinishedError, match="rotate-digest"):
                async with serving(settings):
                    pass
    with pytest.raises(DigestRotationError, match="other digest keys"):
        await rotate(settings_for(own_url, digest_wrapping_keys=AGAIN))
    left = most - (0 + 1 + 3 + most - 6)
    assert await rotate(after) == {"rows": left, "unreadable": 0}
    await _go_on(own_url, after, mailbox, story)
    twice = settings_for(own_url, digest_wrapping_keys=f"{AGAIN},{WRAPPING}")
    assert (await rotate(twice))["rows"] >= most


async def test_what_could_never_be_opened_again_is_not_wrapped_unless_it_is_said(
    own_url: str, after: Settings, story: Story
) -> None:
    connection = await asyncpg.connect(own_url)
    lost = KeyRing.parse("a-secret-that-has-been-lost-for-good-01").seal(b"Amina", b"")
    await connection.execute("UPDATE people SET sealed = $1", lost)
    people = await connection.fetch("SELECT * FROM people")
    with pytest.raises(KeyMissingError, match="people: "):
        await rotate(after)
    assert await connection.fetch("SELECT * FROM people") == people
    told = await rotate(after, leave_unreadable=True)
    assert told["unreadable"] == len(people) > 0
    await connection.close()


async def test_without_a_new_key_nothing_is_done(own_url: str, before: Settings, story: Story) -> None:
    was = await rows_of(own_url)
    with pytest.raises(DigestRotationError, match="MULTITUDE_DIGEST_WRAPPING_KEYS"):
        await rotate(before)
    assert await rows_of(own_url) == was


def test_every_digest_of_the_house_is_declared_with_its_primary_key() -> None:
    # Random, or SHA-256 of what is random; or salted with what is forgotten (`address_digest`).
    others = {
        *("sign_ins.binding_digest", "person_sessions.digest", "api_keys.digest"),
        *("signatures.address_digest", "signature_attempts.address_digest"),
        # Plain digests of entries, for the chain.
        *("audit_entries.digest", "audit_entries.previous_digest"),
    }
    named = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if column.name == "signer" or column.name.endswith("digest")
    }
    tables = digested_tables_of(ROOMS)
    declared = {f"{table.table}.{name}" for table in tables for name in (*table.digests, *table.short_digests)}
    assert declared == named - others
    for table in tables:
        assert [key.name for key in metadata.tables[table.table].primary_key] == list(table.keys)
