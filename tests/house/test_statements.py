"""How many statements a read needs, and that they go by keys, whatever the tables have grown to."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Connection
from app.people.account.sessions import begin
from app.people.sealing import Details
from app.rooms import metadata
from app.signatures.background import consents, withdrawal_messages
from app.signatures.engine import attempts, confirm, erase, insert, tallies, waiting, withdraw
from app.signatures.engine.signings import AbuseSignals
from app.signatures.services import SigningServices
from tests.support.api_surface import OPERATIONS, House
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.factories import UNPROVEN, person
from tests.support.mailed_links import sign_and_prove
from tests.support.types import Headers, Json

CAMPAIGN, PETITION, PARTNER = "equal-everywhere", "repeal-the-act", "sisters-of-kampala"
# Statements at the most, without the look-up of a key.
READS = {
    "/v1/organizations": 1,
    "/v1/mail-failures": 1,
    f"/v1/organizations/{PARTNER}": 1,
    f"/v1/organizations/{PARTNER}/api-keys": 2,
    f"/v1/organizations/{PARTNER}/consent-texts": 2,
    f"/v1/organizations/{PARTNER}/consent-texts?all=true": 2,
    f"/v1/organizations/{PARTNER}/consent-texts/en-1": 2,
    # With its entry in the audit log: the slug's id, the lock, the last entry, the new one.
    # With its entry in the audit log: the slug's id, the lock, the last entry, the new one.
    f"/v1/organizations/{PARTNER}/people": 7,
    "/v1/me": 2,
    "/v1/me/consents": 4,
    "/v1/me/sessions": 1,
    "/v1/me/signatures": 1,
    "/v1/me/export": 11,
    "/v1/campaigns": 1,
    f"/v1/campaigns/{CAMPAIGN}": 3,
    f"/v1/campaigns/{CAMPAIGN}/updates": 2,
    f"/v1/campaigns/{CAMPAIGN}/petitions": 5,
    "/v1/petitions": 4,
    f"/v1/petitions/{PETITION}": 5,
    f"/v1/petitions/{PETITION}/tally?by=country": 6,
    f"/v1/petitions/{PETITION}/invalidations": 2,
    f"/v1/petitions/{PETITION}/held": 3,
    f"/v1/petitions/{PETITION}/trends": 4,
    f"/v1/petitions/{PETITION}/retention": 2,
    f"/v1/campaigns/{CAMPAIGN}/partnerships": 4,
    f"/v1/partners/{PARTNER}/partnerships": 4,
    f"/v1/partners/{PARTNER}/webhook-secrets": 2,
    # Whoever is shown the contact of an endpoint is entered.
    f"/v1/organizations/{PARTNER}/webhook-endpoints": 6,
    f"/v1/partners/{PARTNER}/signers": 7,
    "/v1/audit-log": 1,
    "/v1/pending-acts": 1,
    "/v1/osdi/petitions": 3,
    f"/v1/osdi/petitions/{PETITION}": 2,
}
# Not lists of anything, or looked at elsewhere.
ONE_THING = (
    "osdi/petitions",
    "mail-failures",
    CAMPAIGN,
    PETITION,
    PARTNER,
    "by=country",
    "/v1/me",
    "export",
    # No more than five stand.
    "webhook-secrets",
    "consent-texts",
    "en-1",
    "held",
    "trends",
    "retention",
    "pending-acts",
)
# Reads under an id that is not known beforehand.
ENDPOINTS = ("/{endpoint}", "/{endpoint}/messages", "/attempts")
ENOUGH = 3000
# OSDI says of its list how long it is, and petitions are few.
COUNTED = re.compile(r"SELECT count\(\*\) AS count_1\s+FROM petitions")

Statement = tuple[str, Any]


@contextmanager
def statements_of(house: House) -> Iterator[list[Statement]]:
    """What the application asks its database, through both of its pools, while the block runs."""
    engines = [
        d.engine.sync_engine
        for d in (house.api.state.services.database, house.api.state.services.of(SigningServices).database)
    ]
    asked: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield asked
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


async def _read(house: House, url: str, headers: Headers) -> tuple[Json, list[Statement]]:
    with statements_of(house) as asked:
        answer = await house.client.get(url, headers={"Accept-Language": "fr", **headers})
    assert answer.status_code == 200, answer.text
    return answer.json(), asked


async def _add(house: House, numbers: range) -> None:
    """Something of everything, in two languages, once for each number."""
    owner = house.keys["owner"]

    async def post(url: str, **body: object) -> None:
        answer = await house.client.post(url, json=body, headers=owner)
        assert answer.status_code == 201, answer.text

    for number in numbers:
        await post("/v1/campaigns", slug=f"campaign-{number}", title="A title", goal="A goal")
        await post(f"/v1/campaigns/{CAMPAIGN}/updates", title="News", text="Good news")
        await post("/v1/organizations", slug=f"partner-{number}", name="A partner")
        await post(f"/v1/organizations/{PARTNER}/api-keys", role="partner")
        words = {"title": "Un titre", "ask": "Une demande"}
        milestones = [{"signature_count": count} for count in range(1, number + 2)]
        more = {"texts": {"fr": words}, "milestones": milestones, "opens_at": "2020-01-01T00:00:00Z"}
        more |= UNPROVEN
        slug = PETITION if number == 0 else f"petition-{number}"
        await post(f"/v1/campaigns/{CAMPAIGN}/petitions", slug=slug, title="A title", ask="An ask", **more)
        countries = ["UG", "KE", "TZ", "RW", "BI"]
        await post(f"/v1/organizations/{PARTNER}/consent-texts", purpose="news", locale="en", body=f"May we? {number}")
        agreed = [{"organization": PARTNER, "given": True, "text_version": "en-1"}]
        await sign_and_prove(house.client, PETITION, person(number, countries[number % 5], consents=agreed))
        if number == 0:
            # A rule must match five.
            for other in range(100, 105):
                await post(f"/v1/petitions/{PETITION}/signatures", **person(other, "FR"))
        await post(f"/v1/petitions/{PETITION}/invalidations", reason="An attack", rule={"countries": ["FR"]})
        await _add_to_a_person(house, slug, number)
        await _add_to_a_partner(house)
    await sweep(house.database)


async def _add_to_a_person(house: House, slug: str, number: int) -> None:
    """One more signature, another attempt at it, one more word and session of whoever is signed in."""
    body = person(0, email="amina@example.org")
    for _ in range(2):
        assert (await house.client.post(f"/v1/petitions/{slug}/signatures", json=body)).status_code == 201
    word = {"organization": "movement", "given": number % 2 == 0}
    answer = await house.client.post("/v1/me/consents", json=word, headers=house.keys["person"])
    assert answer.status_code == 201, answer.text
    async with house.database.transaction() as session:
        ring, email = house.settings.key_ring, "amina@example.org"
        await begin(session, ring, ring.digest(email), Details(email))


async def _add_to_a_partner(house: House) -> None:
    """One more invitation and one more secret. Only one of the one and five of the other may stand: these do not."""
    owner, body = house.keys["owner"], {"organization": PARTNER, "terms": "Terms"}
    answer = await house.client.post(f"/v1/campaigns/{CAMPAIGN}/partnerships", json=body, headers=owner)
    ended = await house.client.post(f"/v1/partnerships/{answer.json()['id']}/end", headers=owner)
    assert (answer.status_code, ended.status_code) == (201, 200)
    at = f"/v1/partners/{PARTNER}/webhook-secrets"
    answer = await house.client.post(at, json={}, headers=owner)
    # Ending the last one waits, so that they become as many as may stand.
    assert answer.status_code in {201, 409}
    if answer.status_code == 201:
        ended = await house.client.delete(f"{at}/{answer.json()['id']}", headers=owner)
        assert ended.status_code in {202, 204}
    # By its address, for which no name server is asked.
    endpoint = {"url": "https://1.1.1.1/hook", "types": ["petition.published"]}
    answer = await house.client.post(f"/v1/organizations/{PARTNER}/webhook-endpoints", json=endpoint, headers=owner)
    assert answer.status_code == 201


async def _agree(house: House) -> None:
    """The partner may receive the campaign's signers."""
    statement = """
        INSERT INTO partnerships
            (id, campaign_id, organization_id, state, terms, consents, receives_signers, invited_by, created_at)
        SELECT :id, c.id, o.id, 'active', 'Terms', '[]', true, o.id, now() FROM campaigns c, organizations o
        WHERE c.slug = :campaign AND o.slug = :partner
    """
    await run(house.database, statement, id=uuid7(), campaign=CAMPAIGN, partner=PARTNER)


@pytest.fixture(scope="module")
async def counted(house: House) -> dict[str, tuple[int, int, int]]:
    """For each read: its statements with one thing of everything, with twenty, and how many were shown then."""
    owner = house.keys["owner"]
    body = {"slug": CAMPAIGN, "title": "Equal everywhere", "goal": "A goal", "targets": [{"name": "One"}]}
    assert (await house.client.post("/v1/campaigns", json=body, headers=owner)).status_code == 201
    await _agree(house)
    await _add(house, range(1))
    with_one = {url: await _read(house, url, house.allowed(url)) for url in READS}
    await _add(house, range(1, 20))
    with_many = {url: await _read(house, url, house.allowed(url)) for url in READS}
    shown = {url: len(view.get("items", [])) for url, (view, _) in with_many.items()}
    return {url: (len(with_one[url][1]), len(with_many[url][1]), shown[url]) for url in READS}


def test_every_read_is_looked_at() -> None:
    reads = {path for method, path, _ in OPERATIONS if method == "GET" and path.startswith("/v1/")}
    others = {
        path
        for path in reads
        if path.endswith(
            (
                "/count",
                "/stream",
                "/challenge",
                "/{invalidation}",
                "/{partnership}",
                "/{pending_act}",
                "/osdi",
                *ENDPOINTS,
            )
        )
    }
    assert len(reads - others) == len({url.partition("?")[0] for url in READS})


@pytest.mark.parametrize("url", READS)
def test_a_read_needs_as_many_statements_for_twenty_as_for_one(
    counted: dict[str, tuple[int, int, int]], url: str
) -> None:
    one, many, shown = counted[url]
    # Trends and tallies are kept for a minute, shared addresses for seconds: the second read may need less or more.
    assert one == many or any(kept in url for kept in ("trends", "tally", "held"))
    assert max(one, many) <= READS[url] + 1
    assert shown >= 20 or url.endswith(ONE_THING)


async def test_a_crowd_asking_for_the_count_costs_one_read_a_second(
    house: House, counted: dict[str, tuple[int, int, int]]
) -> None:
    with statements_of(house) as asked:
        answers = await asyncio.gather(
            *(house.client.get(f"/v1/petitions/{PETITION}/count") for _ in range(200)),
            *(house.client.get(f"/v1/petitions/{PETITION}/tally?by=country") for _ in range(100)),
        )
    assert {answer.status_code for answer in answers} == {200}
    hot = [statement for statement, _ in asked if "signature_tallies" in statement]
    assert len(hot) <= 4


async def test_a_batch_needs_as_many_statements_for_many_as_for_one(
    house: House, counted: dict[str, tuple[int, int, int]]
) -> None:
    connection = house.api.state.services.of(SigningServices).engine.writer._lane.connection

    async def sign(numbers: range) -> list[str]:
        asked: list[str] = []
        with connection.query_logger(lambda record: asked.append(record.query)):
            url = f"/v1/petitions/{PETITION}/signatures"
            answers = await asyncio.gather(*(house.client.post(url, json=person(n)) for n in numbers))
        assert {answer.status_code for answer in answers} == {201}
        return asked

    for statement in (insert.FROM_SIGNER, insert._EXISTING, tallies._UPSERT):
        assert (await sign(range(1000, 1001))).count(statement) == 1
    # All but the first wait for the first one's commit, and share the next.
    assert (await sign(range(2000, 2100))).count(insert.FROM_SIGNER) <= 3


def _nodes(plan: Json) -> Iterator[Json]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


class Explained:
    """The plan of a statement: which indexes it uses, and what it does besides."""

    def __init__(self, found: Any) -> None:
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        self.nodes = list(_nodes(plan))
        self.indexes = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        self.arbiters = {name for node in self.nodes for name in node.get("Conflict Arbiter Indexes", [])}
        self.scanned = {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}
        self.kinds = {node["Node Type"] for node in self.nodes}


# Columns that cannot be copied from another row, and what they hold instead.
_OWN = {
    "id": "gen_random_uuid()",
    "slug": "'copy-' || n",
    "digest": "sha256(n::text::bytea)",
    "number": "1000000 + n",
    "about": "'copy-' || n",
    "signer": "substr(sha256(n::text::bytea), 1, 16)",
    "key": "'K' || n",
    "locale": "'x-' || n",
    "threshold_count": "1000 + n",
    "version": "'x-' || n",
    "salted_on": "date '2000-01-01' + n",
}
_OF_TABLES = {
    # A copied rule opens in no other row: nobody shall look at it.
    "invalidations": {"petition_id": "(SELECT id FROM petitions WHERE slug = 'petition-1')"},
    "minute_tallies": {"petition_id": "gen_random_uuid()"},
}


@pytest.fixture(scope="module")
async def grown(house: House, counted: dict[str, tuple[int, int, int]]) -> UUID:
    """Every table but the smallest with some thousands of copies of one of its rows; the petition's id."""
    # Copies of an entry are no chain.
    await run(house.database, "ALTER TABLE audit_entries DISABLE TRIGGER chained")
    for table in metadata.sorted_tables:
        if table.name in {"digest_keys", "signer_feed_entries"}:
            continue
        own = _OWN | _OF_TABLES.get(table.name, {})
        given = [column.name for column in table.columns if column.identity is None]
        columns = {name: own.get(name, f"one.{name}") for name in given}
        values = ", ".join(columns.values())
        one = f"(SELECT * FROM {table.name} ORDER BY 1 DESC LIMIT 1) AS one"
        copies = f"SELECT {values} FROM {one}, generate_series(1, {ENOUGH}) AS n"
        await run(house.database, f"INSERT INTO {table.name} ({', '.join(columns)}) {copies}")
    # Of a consent there is one entry.
    entries = "SELECT row_number() OVER (), organization_id, id FROM consents ON CONFLICT DO NOTHING"
    await run(house.database, f"INSERT INTO signer_feed_entries (number, organization_id, consent_id) {entries}")
    await run(house.database, "ANALYZE")
    rows = await run(house.database, "SELECT id FROM petitions WHERE slug = :slug", slug=PETITION)
    petition_id: UUID = rows[0][0]
    return petition_id


@pytest.fixture
async def explaining(house: House, grown: UUID) -> AsyncIterator[Connection]:
    """A connection that scans a whole table only where there is no other way."""
    connection = await house.database.pin()
    await connection.execute("SET enable_seqscan = off")
    yield connection
    await connection.close()


async def _explain(connection: Connection, statement: str, *values: Any) -> Explained:
    return Explained(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))


def _signings(petition_id: UUID, count: int = 3) -> list[Any]:
    columns: list[list[Any]] = [[bytes([n]) * 16 for n in range(count)], [uuid7() for _ in range(count)]]
    columns += [[b"sealed"] * count, ["UG"] * count, [""] * count, [""] * count, [None] * count, [None] * count]
    return [petition_id, *columns, [now()] * count, *([[None] * count] * len(AbuseSignals._fields))]


@pytest.mark.parametrize(
    "statement", [insert.FROM_SIGNER, insert.FROM_IMPORT, insert.FROM_PARTNER], ids=["SIGN", "IMPORT", "BRING"]
)
async def test_signing_goes_by_keys(explaining: Connection, grown: UUID, statement: str) -> None:
    plan = await _explain(explaining, statement, *_signings(grown))
    assert plan.arbiters == {"pk_signatures"}
    assert plan.indexes == {"pk_petitions"}
    assert plan.scanned == set()


async def test_waiting_beside_an_attempt_that_stands_goes_by_the_key(explaining: Connection, grown: UUID) -> None:
    plan = await _explain(explaining, waiting._WAIT, *_signings(grown), ["pending"] * 3, [None] * 3, [None] * 3)
    assert (plan.indexes, plan.scanned) == ({"pk_signature_attempts"}, set())


async def test_finding_who_has_signed_goes_by_the_key(explaining: Connection, grown: UUID) -> None:
    plan = await _explain(explaining, insert._EXISTING, grown, [b"x" * 16, b"y" * 16])
    assert "pk_signatures" in plan.indexes <= {"pk_signatures", "pk_petitions", "pk_signature_attempts"}
    assert plan.scanned == set()


# By name: each statement, and what it is given after the petition and the signers.
_ONE: list[Any] = [uuid7()]
_BY_KEY: dict[str, tuple[Any, ...]] = {
    "lock": (attempts._LOCK,),
    "next": (attempts._NEXT,),
    "lock chosen": (attempts._LOCK_CHOSEN, _ONE),
    "step aside": (attempts._STEP_ASIDE,),
    "take place": (attempts._TAKE_PLACE, _ONE),
    "leave": (attempts._LEAVE, _ONE),
    "counted": (waiting._COUNTED, _ONE),
    "waiting": (waiting._WAITING, _ONE),
    "are proven": (attempts._PROVEN, _ONE),
    "prove what stands": (confirm._PROVE_STANDING, _ONE, [1]),
    "prove what waits": (confirm._PROVE_WAITING, _ONE, [1]),
    "withdraw what stands": (withdraw._WITHDRAW_STANDING, _ONE, [True]),
    "withdraw what waits": (withdraw._WITHDRAW_WAITING, _ONE, [True]),
    "ask about what stands": (withdraw._ASK_STANDING, _ONE, [True]),
    "ask about what waits": (withdraw._ASK_WAITING, _ONE, [True]),
    "withdraw one's own": (withdraw._WITHDRAW_OWN,),
    "withdraw others": (withdraw._WITHDRAW_OTHERS,),
    "take back": (withdraw._TAKE_BACK,),
    "pad": (withdraw._PAD_TIMING,),
    "erase": (erase._ERASE,),
    "erase keeping": (erase._ERASE_KEEPING,),
    "erase what waits": (erase._ERASE_WAITING,),
}


@pytest.mark.parametrize("name", _BY_KEY)
async def test_what_becomes_of_an_attempt_goes_by_the_key(explaining: Connection, grown: UUID, name: str) -> None:
    statement, *more = _BY_KEY[name]
    plan = await _explain(explaining, statement, grown, [b"x" * 16], *more)
    assert plan.scanned == set()
    assert plan.indexes & {"pk_signatures", "pk_signature_attempts"}
    assert plan.indexes <= {"pk_signatures", "pk_signature_attempts", "pk_petitions"}


@pytest.mark.parametrize("table", withdrawal_messages._TABLES)
async def test_finding_what_was_withdrawn_goes_by_its_index(explaining: Connection, grown: UUID, table: str) -> None:
    plan = await _explain(explaining, str(withdrawal_messages._TABLES[table]))
    assert (plan.indexes, plan.scanned) == ({f"ix_{table}__withdrawn_id"}, set())


@pytest.mark.parametrize("table", consents._TABLES)
async def test_finding_consents_to_enter_goes_by_their_index(explaining: Connection, grown: UUID, table: str) -> None:
    statement = str(consents._TABLES[table]).replace(":after", "$1")
    plan = await _explain(explaining, statement, UUID(int=0))
    assert (plan.indexes, plan.scanned) == ({f"ix_{table}__consents_due"}, set())


async def test_moving_tallies_goes_by_the_key(explaining: Connection, grown: UUID) -> None:
    plan = await _explain(explaining, tallies._UPSERT, grown, 0, ["country", "total"], ["UG", ""], [1, 1])
    assert (plan.arbiters, plan.scanned) == ({"pk_signature_tallies"}, set())


@pytest.mark.parametrize("role", ["anonymous", "owner"])
@pytest.mark.parametrize("url", [*READS, f"/v1/petitions/{PETITION}/count"])
async def test_reads_go_by_keys(house: House, grown: UUID, explaining: Connection, url: str, role: str) -> None:
    for room in (
        house.api.state.services.of(SigningServices).directory,
        house.api.state.services.of(SigningServices).counts._parts,
        house.api.state.services.of(SigningServices).breakdowns,
    ):
        room._cached.clear()
    with statements_of(house) as asked:
        headers = house.allowed(url) if role == "owner" else {}
        answer = await house.client.get(url, headers={"Accept-Language": "fr", **headers})
    if answer.status_code == 401:
        return
    assert answer.status_code == 200
    assert asked
    for statement, values in asked:
        plan = await _explain(explaining, statement, *values)
        assert plan.scanned == ({"petitions"} if COUNTED.match(statement) else set()), statement


@pytest.mark.parametrize(("url", "key"), [("/v1/campaigns", "pk_campaigns"), ("/v1/petitions", "pk_petitions")])
async def test_a_list_is_read_in_the_order_of_its_key(
    house: House, grown: UUID, explaining: Connection, url: str, key: str
) -> None:
    first = (await house.client.get(url)).json()
    with statements_of(house) as asked:
        assert (await house.client.get(url, params={"cursor": first["next_cursor"]})).status_code == 200
    statement, values = next(one for one in asked if "LIMIT" in one[0])
    plan = await _explain(explaining, statement, *values)
    assert plan.indexes == {key}
    assert plan.kinds == {"Limit", "Index Scan"}
