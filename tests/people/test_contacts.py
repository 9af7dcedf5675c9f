"""Contacts: what an organization is shown of a person is what came with the consent to it, and goes with it."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import permutations

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.people.account.service import PersonDetails, remember_all
from app.people.consents import contacts
from app.people.consents.contacts import Told
from app.people.consents.service import Entry, enter
from app.people.sealing import Details, open_contact
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.mailed_links import link_of, prove
from tests.support.partners import insert_partnership
from tests.support.people_mails import AMINA, Postman
from tests.support.settings import RING
from tests.support.types import Headers, Json

Sign = Callable[..., Awaitable[Json]]
SignIn = Callable[..., Awaitable[Headers]]
Tell = Callable[..., Awaitable[None]]

AT = "/v1/organizations/sisters/people"
SIGNER = RING.digest(AMINA)
TO_SISTERS = [{"organization": "sisters", "given": True}]


@pytest.fixture
async def sisters(sisters: Organization, petition: str, database: Database) -> Organization:
    """The partner, in a partnership by which it receives those who consent to it."""
    (found,) = await run(database, "SELECT campaign_id FROM petitions WHERE slug = :slug", slug=petition)
    await insert_partnership(database, sisters.id, found.campaign_id)
    return sisters


@pytest.fixture
def tell(database: Database, sisters: Organization) -> Tell:
    """Enter consents to the sisters that came with attempts, in one transaction, as the sweep does."""

    async def tell(*said: tuple[str, bool, bool, int]) -> None:
        told = [_told(sisters, *one) for one in said]
        async with database.transaction() as session:
            await remember_all(session, RING, [PersonDetails(SIGNER, one.details) for one in told])
            await enter(session, RING, [one.entry for one in told])
            await contacts.remember(session, RING, told)

    return tell


def _told(to: Organization, name: str, given: bool, proven: bool, minutes: int) -> Told:
    moment = now() + timedelta(minutes=minutes)
    entry = Entry(SIGNER, to.id, "news", given, None, moment, proven=proven, attempt_id=uuid7())
    return Told(entry, Details(AMINA, name, "Okello", "sw", proven=proven))


async def kept_for(database: Database, organization: Organization) -> list[Details]:
    rows = await run(database, "SELECT organization_id, signer, sealed FROM contacts")
    assert {row.organization_id for row in rows} <= {organization.id}
    return [open_contact(RING, row.organization_id, row.signer, row.sealed) for row in rows]


async def listed(client: httpx.AsyncClient, headers: Headers) -> list[Json]:
    answer = await client.get(AT, headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


# A name, whether the consent is given, whether it is proven, and when.
VOUCHED, LATER_VOUCHED = ("Vouched", True, False, -9), ("Later", True, False, -1)
PROVEN, LATER_PROVEN = ("Proven", True, True, -8), ("Again", True, True, -2)


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        *((order, "Again") for order in permutations([VOUCHED, LATER_VOUCHED, PROVEN, LATER_PROVEN])),
        *((order, "Later") for order in permutations([VOUCHED, LATER_VOUCHED])),
    ],
)
async def test_the_latest_that_is_proven_is_shown_in_whatever_order_it_is_entered(
    client: httpx.AsyncClient, data_officer: Headers, tell: Tell, database: Database, sisters: Organization,
    said: Sequence[tuple[str, bool, bool, int]], shown: str, at_once: bool,
) -> None:  # fmt: skip
    for part in [said] if at_once else [[one] for one in said]:
        await tell(*part)
    assert [one.given_name for one in await kept_for(database, sisters)] == [shown]
    assert [one["given_name"] for one in await listed(client, data_officer)] == [shown]


PROVEN_NO, VOUCHED_NO = ("No", False, True, -1), ("No", False, False, -1)


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize(
    "said",
    [
        [VOUCHED, VOUCHED_NO],
        [VOUCHED, PROVEN_NO],
        [PROVEN, PROVEN_NO],
        [PROVEN_NO, VOUCHED],
        [PROVEN_NO, PROVEN],
        [VOUCHED_NO, VOUCHED],
    ],
    ids=["vouched", "vouched, refused", "proven", "refused before", "came late", "vouched, came late"],
)
async def test_nothing_is_kept_for_an_organization_whose_consent_does_not_stand(
    client: httpx.AsyncClient, data_officer: Headers, tell: Tell, database: Database, sisters: Organization,
    said: Sequence[tuple[str, bool, bool, int]], at_once: bool,
) -> None:  # fmt: skip
    for part in [said] if at_once else [[one] for one in said]:
        await tell(*part)
    assert await kept_for(database, sisters) == []
    assert await listed(client, data_officer) == []


async def test_taking_a_consent_back_on_the_own_page_deletes_what_came_with_it(
    client: httpx.AsyncClient, agree: Sign, sign_in: SignIn, database: Database, sisters: Organization,
    data_officer: Headers, postman: Postman,
) -> None:  # fmt: skip
    await agree(consents=TO_SISTERS)
    await sweep(database)
    assert [one["given_name"] for one in await listed(client, data_officer)] == ["Given1"]
    await postman.bring()
    headers = await sign_in()
    assert (await client.post("/v1/me/consents", json=TO_SISTERS[0] | {"given": False}, headers=headers)).is_success
    assert await listed(client, data_officer) == []
    assert await kept_for(database, sisters) == []


async def test_who_agrees_on_their_own_page_is_shown_by_what_they_said_themselves(
    client: httpx.AsyncClient, sign: Sign, sign_in: SignIn, database: Database, sisters: Organization,
    data_officer: Headers,
) -> None:  # fmt: skip
    # A stranger, who has typed her address.
    await sign(given_name="Mallory", locale="fr", consents=TO_SISTERS)
    await sweep(database)
    assert await listed(client, data_officer) == []
    headers = await sign_in()
    assert (await client.post("/v1/me/consents", json=TO_SISTERS[0], headers=headers)).is_success
    (shown,) = await listed(client, data_officer)
    assert (shown["given_name"], shown["family_name"], shown["email"]) == (None, None, AMINA)
    assert shown["locale"] != "fr"
    await client.patch("/v1/me", json={"given_name": "Amina"}, headers=headers)
    assert [one["given_name"] for one in await listed(client, data_officer)] == ["Amina"]


async def test_a_proven_consent_is_not_shown_with_names_that_an_organization_vouches_for(
    client: httpx.AsyncClient,
    tell: Tell,
    sign_in: SignIn,
    data_officer: Headers,
    postman: Postman,
    sisters: Organization,
) -> None:
    await tell(("Mallory", True, False, -9))
    await postman.bring()
    headers = await sign_in()
    assert (await client.post("/v1/me/consents", json=TO_SISTERS[0], headers=headers)).is_success
    (shown,) = await listed(client, data_officer)
    assert (shown["given_name"], shown["family_name"], shown["proven"]) == (None, None, True)


@pytest.mark.parametrize("proven", [True, False])
async def test_nobody_is_greeted_by_a_name_that_nobody_has_proven(tell: Tell, postman: Postman, proven: bool) -> None:
    await tell(("Click or you will be arrested", True, proven, 0))
    (mail,) = await postman.bring()
    for text in (mail.subject, mail.text, mail.html or ""):
        assert "arrested" not in text or proven
    assert ("arrested" in mail.text) == proven
    # Nobody is told that they have agreed when somebody else has said so.
    assert ("Sisters of Kampala" in mail.text, "told us" in mail.text) == (True, not proven)


async def test_whom_no_key_opens_yet_is_not_left_out(
    client: httpx.AsyncClient, tell: Tell, data_officer: Headers, database: Database
) -> None:
    await tell(PROVEN)
    ((sealed,),) = await run(database, "SELECT sealed FROM contacts")
    await run(database, "UPDATE contacts SET sealed = :sealed", sealed=b"xx" + sealed[2:])
    answer = await client.get(AT, headers=data_officer)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:multitude:problem:unavailable")
    assert answer.headers["retry-after"] == "60"
    await run(database, "UPDATE contacts SET sealed = :sealed", sealed=sealed)
    assert [one["given_name"] for one in await listed(client, data_officer)] == ["Proven"]


async def test_the_names_of_who_confirms_replace_those_of_who_was_brought(
    client: httpx.AsyncClient, tell: Tell, sign: Sign, sign_in: SignIn, postman: Postman, database: Database
) -> None:
    await tell(("Mallory", True, False, -9))
    signed = await sign(given_name="Amina", consents=TO_SISTERS)
    await prove(client, await link_of(client, signed, AMINA), [0])
    await sweep(database)
    await sign(given_name="Mallory", consents=TO_SISTERS)
    await sweep(database)
    await postman.bring()
    assert (await client.get("/v1/me", headers=await sign_in())).json()["given_name"] == "Amina"


async def test_what_each_organization_is_shown_is_downloaded_and_goes_with_an_erasure(
    client: httpx.AsyncClient, agree: Sign, sign_in: SignIn, postman: Postman, database: Database, sisters: Organization
) -> None:
    await agree(consents=TO_SISTERS)
    await agree("bilal@example.org", consents=TO_SISTERS)
    await sweep(database)
    await postman.bring()
    headers = await sign_in()
    taken = (await client.get("/v1/me/export", headers=headers)).json()
    assert [(one["organization"], one["email"], one["given_name"]) for one in taken["contacts"]] == [
        ("sisters", AMINA, "Given1")
    ]
    assert (await client.post("/v1/me/erasure", json={"signatures": "keep"}, headers=headers)).status_code == 200
    assert [one.email for one in await kept_for(database, sisters)] == ["bilal@example.org"]
