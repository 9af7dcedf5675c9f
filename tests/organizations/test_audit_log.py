"""The audit log: who did what, in one chain that nobody can change unseen."""

import asyncio
import hashlib
import json
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from app.kit.database.session import Database
from app.organizations.audit import verification
from app.organizations.audit.chain import GENESIS
from app.organizations.audit.verification import Verdict, verify
from app.people.account.service import PersonDetails, remember_all
from app.people.consents import service as consents
from app.people.queries import movement_id
from app.people.sealing import Details
from app.settings import Settings
from tests.support.databases import run
from tests.support.types import Headers, Json

LOG = "/v1/audit-log"
PARTNER = {"slug": "sisters", "name": "Sisters of Kampala"}
ALL = "SELECT * FROM audit_entries ORDER BY number"


async def entries(client: httpx.AsyncClient, owner: Headers, **asked: object) -> list[Json]:
    answer = await client.get(LOG, headers=owner, params={name: str(value) for name, value in asked.items()})
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def key_id(database: Database, headers: Headers) -> str:
    """The id of the key in these headers."""
    digest = hashlib.sha256(headers["Authorization"].removeprefix("Bearer ").encode()).digest()
    ((id_,),) = await run(database, "SELECT id FROM api_keys WHERE digest = :digest", digest=digest)
    return str(id_)


async def chain(database: Database, expected: dict[int, bytes] | None = None) -> Verdict:
    async with database.transaction() as session:
        return await verify(session, expected)


async def tampered(database: Database, *statements: str) -> None:
    """As somebody who owns the database may do."""
    await run(database, "ALTER TABLE audit_entries DISABLE TRIGGER appended_to")
    for statement in statements:
        await run(database, statement)
    await run(database, "ALTER TABLE audit_entries ENABLE TRIGGER appended_to")


async def test_an_act_is_entered_with_who_what_and_which_fields(
    client: httpx.AsyncClient, owner: Headers, database: Database
) -> None:
    made = (await client.post("/v1/organizations", json=PARTNER, headers=owner)).json()
    await client.patch("/v1/organizations/sisters", json={"name": "Sisters"}, headers=owner)
    changed, created = await entries(client, owner)
    assert (created["verb"], changed["verb"]) == ("organization.create", "organization.change")
    assert {created["object_id"], changed["object_id"]} == {made["id"]}
    assert (created["fields"], changed["fields"]) == (["name", "slug"], ["name"])
    assert {one["key_id"] for one in (created, changed)} == {await key_id(database, owner)}
    assert (created["number"], changed["number"], created["role"]) == (1, 2, "owner")
    assert (created["category"], created["row_count"], created["reason"]) == ("act", 1, None)


async def test_what_was_refused_is_not_entered(client: httpx.AsyncClient, owner: Headers, analyst: Headers) -> None:
    assert (await client.post("/v1/organizations", json={"slug": "x"}, headers=owner)).status_code == 422
    assert (await client.post("/v1/organizations", json=PARTNER, headers=analyst)).status_code == 403
    assert (
        await client.post("/v1/organizations", json={**PARTNER, "slug": "movement"}, headers=owner)
    ).status_code == 409
    assert await entries(client, owner) == []


async def test_a_look_at_names_is_entered_with_their_number_and_without_them(
    client: httpx.AsyncClient, owner: Headers, data_officer: Headers, database: Database, settings: Settings
) -> None:
    await _consenting(database, settings, 3)
    shown = (await client.get("/v1/organizations/movement/people", headers=data_officer)).json()["items"]
    assert {one["given_name"] for one in shown} == {"Given0", "Given1", "Given2"}
    (look,) = await entries(client, owner, verb="people.look")
    assert (look["row_count"], look["category"], look["role"]) == (3, "look", "data_officer")
    written = str(await run(database, ALL))
    assert "example.org" not in written
    assert "Given" not in written


async def _consenting(database: Database, settings: Settings, count: int) -> None:
    """So many people who have agreed to the movement's news."""
    ring = settings.key_ring
    async with database.transaction() as session:
        movement = await movement_id(session)
        for number in range(count):
            email = f"person.{number}@example.org"
            signer = ring.digest(email)
            known = Details(email, given_name=f"Given{number}", proven=True, on_own_page=True)
            await remember_all(session, ring, [PersonDetails(signer, known)])
            news = {"given": True, "text_id": None, "page": consents.OWN_PAGE}
            await consents.decide(session, ring, signer, movement, "news", **news)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "entered"),
    [
        ("amina@example.org asked for it", "… asked for it"),
        ("asked by amina @ example.org, twice", "asked by … twice"),
        ("asked by amina (at) example.org", "asked by …"),
        ("asked by amina[AT]example.org", "asked by …"),
        ("call 0772123456 first", "call … first"),
        ("call +256 772 123-456 first", "call … first"),
        ("13 of 2026-11-28, page 400", "13 of 2026-11-28, page 400"),
    ],
)
async def test_a_reason_is_entered_without_any_address_or_number_in_it(
    client: httpx.AsyncClient, owner: Headers, campaigner: Headers, reason: str, entered: str
) -> None:
    body = {"slug": "equal", "title": "Equal", "goal": "A goal"}
    await client.post("/v1/campaigns", json=body, headers=campaigner)
    await client.post(
        "/v1/campaigns/equal/petitions", json={"slug": "repeal", "title": "Repeal", "ask": "It."}, headers=campaigner
    )
    rejection = {"moderation": "rejected", "reason": reason}
    answer = await client.put("/v1/petitions/repeal/moderation", json=rejection, headers=campaigner)
    assert answer.status_code == 200, answer.text
    (entry,) = await entries(client, owner, verb="petition.moderate")
    assert entry["reason"] == entered


async def test_an_erasure_is_entered_and_nobody_is_named(
    client: httpx.AsyncClient, owner: Headers, data_officer: Headers, database: Database
) -> None:
    body = {"email": "amina@example.org", "signatures": "keep"}
    assert (await client.post("/v1/erasures", json=body, headers=data_officer)).status_code == 200
    (entry,) = await entries(client, owner, verb="person.erase")
    assert (entry["object_kind"], entry["object_id"], entry["category"]) == ("person", None, "destruction")
    assert "amina" not in str(await run(database, ALL))


async def test_owners_narrow_it_and_read_it_page_by_page(
    client: httpx.AsyncClient, owner: Headers, make_key: Any, database: Database
) -> None:
    other = await make_key("owner")
    for number in range(5):
        body = {"slug": f"partner-{number}", "name": "A partner"}
        await client.post("/v1/organizations", json=body, headers=owner if number % 2 else other)
    first = await client.get(LOG, headers=owner, params={"limit": "2"})
    second = await client.get(LOG, headers=owner, params={"limit": "2", "cursor": first.json()["next_cursor"]})
    third = await client.get(LOG, headers=owner, params={"limit": "2", "cursor": second.json()["next_cursor"]})
    read = [item["number"] for page in (first, second, third) for item in page.json()["items"]]
    assert (read, third.json()["next_cursor"]) == ([5, 4, 3, 2, 1], None)
    assert len(await entries(client, owner, key=await key_id(database, other))) == 3
    one = (await entries(client, owner))[0]
    assert await entries(client, owner, object=f"organization:{one['object_id']}") == [one]
    assert len(await entries(client, owner, object="organization")) == 5
    assert await entries(client, owner, since=one["at"]) == [one]
    assert len(await entries(client, owner, until=one["at"])) == 4
    assert await entries(client, owner, object="petition") == []
    for wrong in ({"cursor": "é"}, {"cursor": "abc"}, {"since": "yesterday"}, {"key": "me"}):
        assert (await client.get(LOG, headers=owner, params=wrong)).status_code == 422


@pytest.mark.parametrize("role", ["campaigner", "analyst", "data_officer"])
async def test_owners_alone_read_it(client: httpx.AsyncClient, make_key: Any, role: str) -> None:
    assert (await client.get(LOG, headers=await make_key(role))).status_code == 403


async def test_acts_at_once_make_one_chain_without_gaps(
    client: httpx.AsyncClient, owner: Headers, campaigner: Headers, database: Database
) -> None:
    bodies = [{"slug": f"partner-{number}", "name": "A partner"} for number in range(30)]
    answers = await asyncio.gather(
        *(client.post("/v1/organizations", json=body, headers=owner) for body in bodies),
        *(client.post("/v1/organizations", json=body, headers=campaigner) for body in bodies),
    )
    assert [answer.status_code for answer in answers] == [201] * 30 + [403] * 30
    assert [row.number for row in await run(database, ALL)] == list(range(1, 31))
    assert (await chain(database))[::2] == (30, None)


async def test_nobody_changes_it_by_way_of_the_service(
    database: Database, client: httpx.AsyncClient, owner: Headers
) -> None:
    await client.post("/v1/organizations", json=PARTNER, headers=owner)
    for statement in ("UPDATE audit_entries SET verb = 'x'", "DELETE FROM audit_entries", "TRUNCATE audit_entries"):
        with pytest.raises(DBAPIError, match="only ever appended to"):
            await run(database, statement)
    assert len(await run(database, ALL)) == 1


@pytest.fixture
async def ten(
    client: httpx.AsyncClient, owner: Headers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Verdict:
    """Ten entries, looked at three at a time; the chain's head."""
    monkeypatch.setattr(verification, "BATCH", 3)
    for number in range(10):
        await client.post("/v1/organizations", json={"slug": f"p-{number}", "name": "P"}, headers=owner)
    head = await chain(database)
    assert (head.number, head.reason) == (10, None)
    return head


ALTERED = [
    ("UPDATE audit_entries SET row_count = 0 WHERE number = 4", 3, "altered"),
    ("UPDATE audit_entries SET key_id = gen_random_uuid() WHERE number = 10", 9, "altered"),
    ("UPDATE audit_entries SET at = at + interval '1 microsecond' WHERE number = 1", 0, "altered"),
    ("UPDATE audit_entries SET digest = sha256('x') WHERE number = 5", 4, "altered"),
    ("UPDATE audit_entries SET previous_digest = sha256('x') WHERE number = 6", 5, "unchained"),
    ("DELETE FROM audit_entries WHERE number = 7", 6, "missing"),
    ("DELETE FROM audit_entries WHERE number = 1", 0, "missing"),
]


@pytest.mark.parametrize(("statement", "last", "reason"), ALTERED)
async def test_the_first_broken_entry_is_named(
    ten: Verdict, database: Database, statement: str, last: int, reason: str
) -> None:
    await tampered(database, statement)
    found = await chain(database)
    assert (found.number, found.reason) == (last, reason)


async def test_what_was_cut_off_or_written_anew_is_seen_by_whoever_noted_the_head(
    ten: Verdict, database: Database
) -> None:
    noted = {ten.number: ten.digest}
    assert (await chain(database, noted)).reason is None
    await tampered(database, "DELETE FROM audit_entries WHERE number > 8")
    assert (await chain(database)).reason is None
    assert (await chain(database, noted)).reason == "head-missing"


async def test_the_digest_is_what_the_documentation_says(ten: Verdict, shared_url: str) -> None:
    """Told in `docs/staff.md`: anybody can digest an entry with other tools."""
    connection = await asyncpg.connect(shared_url)
    row = await connection.fetchrow("SELECT * FROM audit_entries WHERE number = 1")
    await connection.close()
    assert row is not None
    form = {name: value for name, value in row.items() if name not in {"previous_digest", "digest"}}
    form["at"] = row["at"].isoformat(timespec="microseconds")
    for name in ("key_id", "organization_id"):
        form[name] = str(row[name])
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(bytes(32) + text.encode()).digest() == row["digest"]


@pytest.mark.parametrize("number", [-7, 0])
async def test_an_entry_before_the_first_is_seen(
    client: httpx.AsyncClient, owner: Headers, database: Database, number: int
) -> None:
    """Owners are shown it: whoever owns the database must not get it past the proof."""
    await client.post("/v1/organizations", json=PARTNER, headers=owner)
    await run(database, "ALTER TABLE audit_entries DISABLE TRIGGER chained")
    await run(database, "ALTER TABLE audit_entries DROP CONSTRAINT ck_audit_entries__number")
    try:
        await run(database, _COPY.format(number=number, previous="previous_digest"))
    finally:
        await run(database, "ALTER TABLE audit_entries ENABLE TRIGGER chained")
        check = "ADD CONSTRAINT ck_audit_entries__number CHECK (number > 0) NOT VALID"
        await run(database, f"ALTER TABLE audit_entries {check}")
    assert [one["number"] for one in await entries(client, owner)] == [1, number]
    assert await chain(database) == Verdict(0, GENESIS, "inserted")


@pytest.mark.parametrize(
    ("number", "previous"), [(-1, "digest"), (0, "digest"), (1, "digest"), (3, "digest"), (2, "previous_digest")]
)
async def test_what_does_not_follow_the_last_entry_is_refused(
    client: httpx.AsyncClient, owner: Headers, database: Database, number: int, previous: str
) -> None:
    await client.post("/v1/organizations", json=PARTNER, headers=owner)
    with pytest.raises(DBAPIError, match="follows the last one"):
        await run(database, _COPY.format(number=number, previous=previous))
    await run(database, _COPY.format(number=2, previous="digest"))


_COPY = """
    INSERT INTO audit_entries
        (number, at, role, verb, category, object_kind, row_count, fields, previous_digest, digest)
    SELECT {number}, at, role, 'people.look', category, object_kind, row_count, fields, {previous}, digest
    FROM audit_entries
"""
