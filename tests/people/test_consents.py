"""The words people are asked, the ledger of their answers, and who may see who has agreed."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database import ids
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.people.account.service import PersonDetails, change, details_of, remember, remember_all
from app.people.consents import contacts
from app.people.consents import service as consents
from app.people.consents.contacts import Told
from app.people.consents.policy import ConsentTwice, check, open_consent_policies, read_policies
from app.people.consents.service import Entry, consenting, enter
from app.people.fields.emails import canonical
from app.people.queries import HAS_CONSENT_SQL
from app.people.schemas import Consent
from app.people.sealing import Details
from app.settings import Settings
from tests.support.application import sweep
from tests.support.attempts import attempt_id
from tests.support.databases import run
from tests.support.factories import person as somebody
from tests.support.mailed_links import link_of, prove
from tests.support.partners import insert_partnership
from tests.support.people_mails import AMINA, Postman
from tests.support.types import Headers, Json

MakeKey = Callable[..., Awaitable[Headers]]
Sign = Callable[..., Awaitable[Json]]
SignIn = Callable[..., Awaitable[Headers]]
Say = Callable[..., Awaitable[list[Entry]]]

TEXTS = "/v1/organizations/sisters/consent-texts"
PEOPLE = "/v1/organizations/sisters/people"
PROBLEM = "urn:multitude:problem:"


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return settings.key_ring


@pytest.fixture
async def movement(database: Database) -> Organization:
    """The movement itself."""
    async with database.transaction() as session:
        return (await session.scalars(select(Organization).where(Organization.kind == "movement"))).one()


@pytest.fixture
async def sisters(sisters: Organization, petition: str, database: Database) -> Organization:
    """The partner, in a partnership by which it receives those who consent to it."""
    (found,) = await run(database, "SELECT campaign_id FROM petitions WHERE slug = :slug", slug=petition)
    await insert_partnership(database, sisters.id, found.campaign_id)
    return sisters


@pytest.fixture
def say(database: Database, ring: KeyRing, sisters: Organization) -> Say:
    """Enter what somebody said to the sisters, so many minutes from now; what is newly given.

    On their own page; or, where it is not proven, as the sisters say that they did.
    """

    async def say(
        email: str,
        *given: bool,
        minutes: int = 0,
        purpose: str = "news",
        to: Organization = sisters,
        proven: bool = True,
    ) -> list[Entry]:
        signer = ring.digest(canonical(email))
        decided_at = now() + timedelta(minutes=minutes)
        async with database.transaction() as session:
            await remember(session, ring, signer, email=email, given_name="Given", family_name="Family")
            return await enter_all(
                session,
                ring,
                email,
                [entry_of(signer, to.id, purpose, one, decided_at, proven=proven) for one in given],
            )

    return say


def entry_of(
    signer: bytes, organization_id: UUID, purpose: str, given: bool, decided_at: datetime, *, proven: bool
) -> Entry:
    """What somebody said on their own page, or an organization says that they did."""
    attempt_id = None if proven else uuid7()
    return Entry(signer, organization_id, purpose, given, None, decided_at, proven=proven, attempt_id=attempt_id)


async def enter_all(session: AsyncSession, ring: KeyRing, email: str, said: list[Entry]) -> list[Entry]:
    """Enter these, and keep what the organization says of whoever it brings."""
    given = await enter(session, ring, said)
    brought = [Told(entry, Details(email, "Given", "Family")) for entry in said if not entry.proven]
    await contacts.remember(session, ring, brought)
    return given


async def emails_of(client: httpx.AsyncClient, headers: Headers, url: str = PEOPLE) -> list[str]:
    """Everybody the list shows, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await client.get(url, params={"limit": 2, **({"cursor": cursor} if cursor else {})}, headers=headers)
        assert page.status_code == 200, page.text
        assert page.headers["cache-control"] == "no-store"
        found += [item["email"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return found


async def test_texts_are_numbered_by_purpose_and_locale_and_stay(
    client: httpx.AsyncClient, campaigner: Headers, sisters: Organization
) -> None:
    wanted = [("news", "en"), ("news", "en"), ("news", "pt-br"), ("phone", "en"), ("news", "en")]
    made = []
    for number, (purpose, locale) in enumerate(wanted):
        body = {"purpose": purpose, "locale": locale, "body": f"Words {number}"}
        answer = await client.post(TEXTS, json=body, headers=campaigner)
        assert answer.status_code == 201
        made.append(answer.json()["version"])
    assert made == ["en-1", "en-2", "pt-BR-1", "en-1", "en-3"]
    in_use = (await client.get(TEXTS)).json()["items"]
    assert {(one["purpose"], one["version"]) for one in in_use} == {
        ("news", "en-3"), ("news", "pt-BR-1"), ("phone", "en-1")
    }  # fmt: skip
    first = await client.get(f"{TEXTS}/en-1")
    assert (first.json()["body"], first.status_code) == ("Words 0", 200)
    assert (await client.get(f"{TEXTS}/en-1?purpose=phone")).json()["body"] == "Words 3"
    missing = await client.get(f"{TEXTS}/en-9")
    assert (missing.status_code, missing.json()["type"]) == (404, f"{PROBLEM}consent-text-not-found")
    everything = await client.get(TEXTS, params={"all": "true", "limit": 3}, headers=campaigner)
    rest = await client.get(
        TEXTS, params={"all": "true", "cursor": everything.json()["next_cursor"]}, headers=campaigner
    )
    assert len(everything.json()["items"]) + len(rest.json()["items"]) == len(wanted)


async def test_texts_are_written_by_campaigners_and_by_a_partner_for_itself(
    client: httpx.AsyncClient, make_key: MakeKey, sisters: Organization, owner: Headers, amina: Headers
) -> None:
    await client.post("/v1/organizations", json={"slug": "others", "name": "Others"}, headers=owner)
    body = {"locale": "en", "body": "Words"}
    own, other = await make_key("partner", "sisters"), await make_key("partner", "others")
    answers = {
        "own": (await client.post(TEXTS, json=body, headers=own)).status_code,
        "other": (await client.post(TEXTS, json=body, headers=other)).status_code,
        "analyst": (await client.post(TEXTS, json=body, headers=await make_key("analyst"))).status_code,
        "nobody": (await client.post(TEXTS, json=body)).status_code,
        "person": (await client.post(TEXTS, json=body, headers=amina)).status_code,
        "all, own": (await client.get(f"{TEXTS}?all=true", headers=own)).status_code,
        "all, other": (await client.get(f"{TEXTS}?all=true", headers=other)).status_code,
        "all, analyst": (await client.get(f"{TEXTS}?all=true", headers=await make_key("analyst"))).status_code,
        "all, nobody": (await client.get(f"{TEXTS}?all=true")).status_code,
        "all, person": (await client.get(f"{TEXTS}?all=true", headers=amina)).status_code,
        "in use, person": (await client.get(TEXTS, headers=amina)).status_code,
    }
    assert answers == {
        "own": 201, "other": 404, "analyst": 403, "nobody": 401, "person": 403,
        "all, own": 200, "all, other": 404, "all, analyst": 200, "all, nobody": 401, "all, person": 403,
        "in use, person": 200,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [{}, {"locale": "en"}, {"locale": "x y", "body": "b"}, {"locale": "en", "body": " "},
     {"locale": "en", "body": "b", "purpose": "profit"}, {"locale": "en", "body": "b", "version": "en-7"}],
)  # fmt: skip
async def test_a_malformed_text_changes_nothing(
    client: httpx.AsyncClient, campaigner: Headers, sisters: Organization, body: Json
) -> None:
    assert (await client.post(TEXTS, json=body, headers=campaigner)).status_code == 422
    assert (await client.get(TEXTS)).json()["items"] == []


async def test_the_ledger_cannot_be_changed(say: Say, database: Database) -> None:
    await say(AMINA, True)
    with pytest.raises(DBAPIError, match="only ever appended"):
        await run(database, "UPDATE consents SET given = false")
    with pytest.raises(DBAPIError, match="only ever appended"):
        await run(database, "UPDATE consents SET decided_at = now() WHERE given")
    assert await run(database, "SELECT given FROM consents") == [(True,)]


async def test_the_latest_word_counts_in_whatever_order_it_is_entered(
    client: httpx.AsyncClient, say: Say, data_officer: Headers
) -> None:
    await say("a@example.org", False, minutes=-1)
    assert await say("a@example.org", True, minutes=-2) == []
    assert len(await say("b@example.org", True, minutes=-1)) == 1
    assert await say("b@example.org", False, minutes=-2) == []
    assert len(await say("c@example.org", False, True)) == 1
    assert await say("d@example.org", True, False) == []
    assert sorted(await emails_of(client, data_officer)) == ["b@example.org", "c@example.org"]


async def test_only_a_consent_that_did_not_stand_is_newly_given(say: Say, database: Database) -> None:
    given = [
        len(await say(AMINA, True, minutes=-9)),
        len(await say(AMINA, True, minutes=-8)),
        len(await say(AMINA, False, minutes=-7)),
        len(await say(AMINA, True, minutes=-6)),
        len(await say(AMINA, True, minutes=-5, purpose="phone")),
    ]
    assert given == [1, 0, 0, 1, 1]


@pytest.mark.parametrize("proven", [True, False])
async def test_nobody_is_welcomed_twice_however_often_they_agree(
    say: Say, postman: Postman, movement: Organization, proven: bool
) -> None:
    for minutes, given in enumerate([True, False, True, False, True], start=-9):
        await say(AMINA, given, minutes=minutes, proven=proven)
    assert len(await postman.bring()) == 1
    await say(AMINA, False, minutes=-2)
    await say(AMINA, True, minutes=-1)
    assert await postman.bring() == []
    await say(AMINA, True, minutes=-1, to=movement)
    assert len(await postman.bring()) == 1


async def test_an_old_word_that_comes_late_counts_as_one_they_were_welcomed_for(say: Say, postman: Postman) -> None:
    await say(AMINA, False, minutes=-8)
    await say(AMINA, True, minutes=-9)
    assert len(await say(AMINA, True)) == 1
    assert await postman.bring() == []


OWN_NO, OWN_YES = (False, True), (True, True)
VOUCHED_NO, VOUCHED_YES = (False, False), (True, False)


@pytest.mark.parametrize(
    ("words", "stands"),
    [
        ([OWN_NO, VOUCHED_YES], False),
        ([OWN_YES, VOUCHED_NO], True),
        ([VOUCHED_YES, OWN_NO, VOUCHED_YES], False),
        ([OWN_NO, VOUCHED_YES, OWN_YES, VOUCHED_NO], True),
        ([VOUCHED_YES], True),
        ([VOUCHED_YES, VOUCHED_NO], False),
        ([VOUCHED_NO, VOUCHED_YES], True),
        ([VOUCHED_YES, OWN_NO], False),
        ([VOUCHED_NO, OWN_YES], True),
    ],
)
@pytest.mark.parametrize("backwards", [False, True], ids=["as said", "last first"])
@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
async def test_what_an_organization_vouches_for_never_overrules_what_the_person_said(
    client: httpx.AsyncClient, database: Database, ring: KeyRing, sisters: Organization, data_officer: Headers,
    sign_in: SignIn, sign: Sign, postman: Postman,
    words: list[tuple[bool, bool]], stands: bool, backwards: bool, at_once: bool,
) -> None:  # fmt: skip
    signer, hour = ring.digest(AMINA), now() - timedelta(hours=1)
    said = [
        entry_of(signer, sisters.id, "news", given, hour + timedelta(minutes=number), proven=proven)
        for number, (given, proven) in enumerate(words)
    ]
    said = said[::-1] if backwards else said
    async with database.transaction() as session:
        await remember(session, ring, signer, email=AMINA)
        parts = [said] if at_once else [[one] for one in said]
        rounds = [await enter_all(session, ring, AMINA, part) for part in parts]
        assert bool(rounds[-1]) <= stands, "only what stands is newly given"
        latest = (await consents.latest_of(session, signer))[sisters.id, "news"]
        assert set(await session.scalars(consenting(sisters.id, "news"))) == ({signer} if stands else set())
    assert latest.given == stands
    question = f"SELECT {HAS_CONSENT_SQL.format(signer='CAST(:signer AS bytea)')}"
    assert (await run(database, question, signer=signer))[0][0] == stands
    assert await emails_of(client, data_officer) == ([AMINA] if stands else [])
    await postman.bring()
    await sign()
    listed = (await client.get("/v1/me/consents", headers=await sign_in())).json()["items"]
    assert [(one["given"], one["proven"]) for one in listed if one["latest"]] == [(stands, latest.proven)]


async def test_what_an_organization_vouches_for_gives_nothing_anew_to_whoever_refused(
    say: Say, postman: Postman
) -> None:
    await say(AMINA, False, minutes=-9)
    assert await say(AMINA, True, proven=False) == []
    assert await postman.bring() == []


async def test_nobodys_no_in_ones_name_does_not_stand_for_unsubscribing(
    client: httpx.AsyncClient, say: Say, postman: Postman, data_officer: Headers
) -> None:
    await say(AMINA, True, minutes=-9, proven=False)
    (mail,) = await postman.bring()
    await say(AMINA, False, minutes=-8, proven=False)
    assert mail.unsubscribe_url
    assert (await client.post(mail.unsubscribe_url)).status_code == 200
    await say(AMINA, True, proven=False)
    assert await emails_of(client, data_officer) == []


async def test_whoever_agrees_is_welcomed_and_can_leave_with_one_click(
    client: httpx.AsyncClient, say: Say, postman: Postman, data_officer: Headers
) -> None:
    await say(AMINA, True)
    (mail,) = await postman.bring()
    assert mail.recipient == AMINA
    assert "Sisters of Kampala" in mail.text
    assert mail.unsubscribe_url
    assert await emails_of(client, data_officer) == [AMINA]
    answer = await client.post(mail.unsubscribe_url, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert await emails_of(client, data_officer) == []


async def test_nobody_is_welcomed_who_has_changed_their_mind(say: Say, postman: Postman, database: Database) -> None:
    await say(AMINA, True, minutes=-1)
    await say(AMINA, False)
    assert await postman.bring() == []
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_unsubscribing_again_adds_nothing_and_looks_the_same(
    client: httpx.AsyncClient, say: Say, postman: Postman, database: Database
) -> None:
    await say(AMINA, True, minutes=60)
    (mail,) = await postman.bring()
    assert mail.unsubscribe_url
    pages = {(await client.post(mail.unsubscribe_url)).content for _ in range(3)}
    assert len(pages) == 1
    ledger = await run(database, "SELECT given, page FROM consents ORDER BY id")
    assert [tuple(row) for row in ledger] == [(True, None), (False, "unsubscribe")]


async def test_a_scanner_that_opens_the_link_unsubscribes_nobody(
    client: httpx.AsyncClient, say: Say, postman: Postman, stored: Callable[[], Awaitable[list[object]]]
) -> None:
    await say(AMINA, True)
    (mail,) = await postman.bring()
    before = await stored()
    assert mail.unsubscribe_url
    page = await client.get(mail.unsubscribe_url)
    assert page.status_code == 200
    assert "Sisters of Kampala" in page.text
    assert (await client.head(mail.unsubscribe_url)).status_code in {200, 405}
    assert await stored() == before
    action = page.text.partition('action="')[2].partition('"')[0]
    assert (await client.post(action, data={})).status_code == 200
    assert await stored() != before


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 83, "%00", "../.."])
async def test_an_unsubscribe_link_that_is_none_says_so(client: httpx.AsyncClient, token: str) -> None:
    for method in ("GET", "POST"):
        answer = await client.request(method, "/unsubscribe", params={"token": token})
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")


async def test_a_partner_sees_only_its_own_people_and_who_may_not_see_is_refused(
    client: httpx.AsyncClient, say: Say, make_key: MakeKey, owner: Headers, amina: Headers, database: Database
) -> None:
    await client.post("/v1/organizations", json={"slug": "others", "name": "Others"}, headers=owner)
    await say("bilal@example.org", True)
    own, other = await make_key("partner", "sisters"), await make_key("partner", "others")
    assert await emails_of(client, own) == ["bilal@example.org"]
    assert await emails_of(client, owner) == ["bilal@example.org"]
    statuses = {
        name: (await client.get(PEOPLE, headers=headers)).status_code
        for name, headers in {
            "other": other,
            "campaigner": await make_key("campaigner"),
            "analyst": await make_key("analyst"),
            "person": amina,
            "nobody": {},
        }.items()
    }
    assert statuses == {"other": 404, "campaigner": 403, "analyst": 403, "person": 403, "nobody": 401}
    assert (await client.get("/v1/organizations/nowhere/people", headers=own)).status_code == 404


async def test_a_page_of_people_shows_what_a_mailing_needs_and_a_cursor_no_digest(
    client: httpx.AsyncClient, say: Say, data_officer: Headers, ring: KeyRing
) -> None:
    emails = [f"p{number}@example.org" for number in range(7)]
    for email in emails:
        await say(email, True)
    await say(emails[3], False, minutes=1)
    assert sorted(await emails_of(client, data_officer)) == emails[:3] + emails[4:]
    page = (await client.get(PEOPLE, params={"limit": 1}, headers=data_officer)).json()
    fields = {"given_name", "family_name", "email", "locale", "decided_at", "proven", "text_version"}
    assert page["items"][0].keys() == fields
    digest = ring.digest(page["items"][0]["email"]).hex()
    assert digest not in page["next_cursor"]
    for cursor in ("x", page["next_cursor"][:-2], "A" * 62):
        answer = await client.get(PEOPLE, params={"cursor": cursor}, headers=data_officer)
        assert (answer.status_code, answer.json()["type"]) == (422, f"{PROBLEM}unknown-cursor")
    elsewhere = "/v1/organizations/movement/people"
    foreign = await client.get(elsewhere, params={"cursor": page["next_cursor"]}, headers=data_officer)
    assert foreign.status_code == 422


async def test_what_is_asked_of_the_ledger_agrees_with_it(
    say: Say, database: Database, ring: KeyRing, sisters: Organization
) -> None:
    await say("yes@example.org", True)
    await say("no@example.org", True, False)
    await say("phone@example.org", True, False, purpose="news")
    await say("phone@example.org", True, purpose="phone")
    signer = {name: ring.digest(f"{name}@example.org") for name in ("yes", "no", "phone", "unknown")}
    question = f"SELECT {HAS_CONSENT_SQL.format(signer='CAST(:signer AS bytea)')}"
    told = {name: (await run(database, question, signer=value))[0][0] for name, value in signer.items()}
    assert told == {"yes": True, "no": False, "phone": True, "unknown": False}
    async with database.transaction() as session:
        assert set(await session.scalars(consenting(sisters.id, "news"))) == {signer["yes"]}
        assert set(await session.scalars(consenting(sisters.id, "phone"))) == {signer["phone"]}
        latest = await consents.latest_of(session, signer["phone"])
    assert {purpose: entry.given for (_, purpose), entry in latest.items()} == {"news": False, "phone": True}


async def test_remembering_fills_in_and_never_overwrites(database: Database, ring: KeyRing) -> None:
    signer = ring.digest(AMINA)
    async with database.transaction() as session:
        await remember(session, ring, signer, email=AMINA)
        await remember(session, ring, signer, email="AMINA@example.org", given_name="Amina")
        await remember(session, ring, signer, email=AMINA, given_name="Mallory", family_name="Okello")
        await change(session, ring, signer, {"family_name": None})
        await remember(session, ring, signer, email=AMINA, family_name="Okello", locale="sw")
        details = await details_of(session, ring, signer)
    assert details == Details(AMINA, "Amina", "", "sw", None, None, proven=True, on_own_page=True)


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
async def test_names_that_are_proven_replace_those_that_are_not_and_stay(
    database: Database, ring: KeyRing, at_once: bool
) -> None:
    signer = ring.digest(AMINA)
    said = [
        Details(AMINA, "Mallory", "Malice", "fr"),
        Details(AMINA, "Amina", proven=True),
        Details(AMINA, "Mallory", "Malice", "de"),
        Details(AMINA, "Amy", "Okello", proven=True),
    ]
    people = [PersonDetails(signer, one) for one in said]
    async with database.transaction() as session:
        for part in [people] if at_once else [[one] for one in people]:
            await remember_all(session, ring, part)
        details = await details_of(session, ring, signer)
    assert details == Details(AMINA, "Amina", "", "fr", proven=True)


LEDGER = (
    "SELECT c.signer, c.organization_id, c.given, t.version, c.page, c.petition_id IS NOT NULL, c.proven,"
    " c.attempt_id, c.petition_id FROM consents c JOIN consent_texts t ON t.id = c.text_id"
)


@pytest.fixture
async def consent(client: httpx.AsyncClient, campaigner: Headers, sisters: Organization) -> Json:
    """A consent to the sisters, in their words."""
    await client.post(TEXTS, json={"locale": "en", "body": "Words"}, headers=campaigner)
    return {"organization": "sisters", "given": True, "text_version": "en-1", "page": "example.org/sign"}


async def test_consents_that_the_mailed_link_has_proven_reach_the_ledger(
    agree: Sign, consent: Json, sisters: Organization, database: Database, ring: KeyRing
) -> None:
    signed = await agree(consents=[consent])
    await sweep(database)
    (row,) = await run(database, LEDGER)
    id_ = attempt_id(row.petition_id, signed)
    assert row[:8] == (ring.digest(AMINA), sisters.id, True, "en-1", "example.org/sign", True, True, id_)


@pytest.mark.parametrize("proven", [True, False], ids=["not ticked", "not followed"])
async def test_consents_that_nobody_has_proven_do_not_reach_the_ledger(
    client: httpx.AsyncClient, sign: Sign, consent: Json, database: Database, data_officer: Headers, proven: bool
) -> None:
    signed = await sign(consents=[consent, {"organization": "movement", "given": True}])
    if proven:
        await prove(client, await link_of(client, signed, AMINA))
    await sweep(database)
    for table in ("consents", "contacts", "people", "signer_feed_entries"):
        assert await run(database, f"SELECT 1 FROM {table}") == []
    for url in (PEOPLE, "/v1/organizations/movement/people"):
        assert await emails_of(client, data_officer, url) == []


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([{"purpose": "phone"}], "invalid"),
        ([{"purpose": "location"}], "invalid"),
        ([{}, {"given": False}], "consent-twice"),
        ([{}, {}], "consent-twice"),
        ([{"page": "example.org/sign?email=amina"}], "invalid"),
        ([{"page": "example.org/sign#amina"}], "invalid"),
        ([{"page": "amina@example.org"}], "invalid"),
        ([{"page": "example.org/amina%40example.org"}], "invalid"),
        ([{"page": "example.org/amina%2540example.org"}], "invalid"),
        ([{"page": "example.org/amina\uff20example.org"}], "invalid"),
        ([{"page": "example.org/for amina"}], "invalid"),
        ([{"page": "example.org/\x00amina"}], "invalid"),
    ],
    ids=str,
)
async def test_a_signature_brings_one_word_for_news_from_a_host_and_a_path(
    client: httpx.AsyncClient, petition: str, sisters: Organization, database: Database, said: list[Json], problem: str
) -> None:
    body = somebody(1, consents=[{"organization": "sisters", "given": True, **one} for one in said])
    answer = await client.post(f"/v1/petitions/{petition}/signatures", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, f"{PROBLEM}{problem}")
    assert "amina" not in answer.text
    assert await run(database, "SELECT 1 FROM signatures") == []


async def test_an_imported_signature_brings_one_word_for_each_organization_too(database: Database) -> None:
    async with database.transaction() as session:
        asked = await read_policies(session)
    word = Consent(organization="movement", given=True)
    check(asked, [word])
    with pytest.raises(ConsentTwice):
        check(asked, [word, word.model_copy(update={"given": False})])


@pytest.mark.parametrize("page", ["example.org/sign", "https://example.org/%C3%A9t%C3%A9/", "مثال.org/وقع", None])
async def test_a_host_and_a_path_are_taken_in_every_script(sign: Sign, sisters: Organization, page: str | None) -> None:
    await sign(consents=[{"organization": "sisters", "given": True, "page": page}])


@pytest.mark.parametrize(
    ("consent", "problem"),
    [
        ({"organization": "nobody", "given": True}, "unknown-organization"),
        ({"organization": "sisters", "given": True}, "consent-text-needed"),
        ({"organization": "sisters", "given": True, "text_version": "en-2"}, "unknown-consent-text"),
        ({"organization": "sisters", "given": False, "text_version": "xx"}, "unknown-consent-text"),
        (
            {"organization": "sisters", "given": True, "purpose": "phone", "text_version": "en-1"},
            "unknown-consent-text",
        ),
    ],
)
async def test_a_consent_to_words_nobody_has_shown_is_refused(
    client: httpx.AsyncClient, campaigner: Headers, sisters: Organization, amina: Headers, consent: Json, problem: str,
    stored: Callable[[], Awaitable[list[object]]],
) -> None:  # fmt: skip
    await client.post(TEXTS, json={"locale": "en", "body": "Words"}, headers=campaigner)
    before = await stored()
    answer = await client.post("/v1/me/consents", json=consent, headers=amina)
    assert (answer.status_code, answer.json()["type"]) == (422, f"{PROBLEM}{problem}")
    assert await stored() == before


async def test_who_asks_is_read_once_for_many(database: Database, sisters: Organization) -> None:
    policies = open_consent_policies(database)
    found = await policies.get("sisters")
    assert found is not None
    assert (found.id, found.texts) == (sisters.id, {})
    assert policies.peek("sisters") is found
    assert await policies.get("nobody") is None
    assert isinstance((await policies.get("movement") or found).id, UUID)


async def test_of_decisions_of_one_second_the_one_entered_later_counts_whichever_process_enters_it(
    database: Database, ring: KeyRing, sisters: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = ring.digest(AMINA)
    for number in range(40):
        # Each of another process, whose ids are in no order with those of the others.
        monkeypatch.setattr(ids, "_of_second", ids._OfSecond())
        async with database.transaction() as session:
            given = number % 2 == 0
            decided = await consents.decide(session, ring, signer, sisters.id, "news", given=given)
            assert (decided.given, decided.decided_at.microsecond) == (given, 0)
    entries = await run(database, "SELECT given, decided_at FROM consents ORDER BY decided_at, id")
    assert [row.given for row in entries] == [True, False] * 20
    assert len({row.decided_at for row in entries}) < 40, "some were made within one second"


async def test_a_decision_follows_one_that_the_version_before_has_dated_more_finely(
    database: Database, ring: KeyRing, sisters: Organization
) -> None:
    signer = ring.digest(AMINA)
    former = now().replace(microsecond=0) + timedelta(seconds=1, microseconds=-1)
    async with database.transaction() as session:
        await enter(session, ring, [Entry(signer, sisters.id, "news", True, None, former)])
        decided = await consents.decide(session, ring, signer, sisters.id, "news", given=False)
    assert not decided.given
    assert decided.decided_at >= former
