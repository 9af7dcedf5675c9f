"""What an organization is told of a person came with the consent to it, and nothing that they said elsewhere.

Anybody can type anybody's address: so each story has a stranger, or a partner, who says something in Amina's name.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest

from app.kit.database.session import Database
from app.people.account.sessions import begin
from app.people.sealing import Details
from app.signatures.background.withdrawal_messages import SIGNATURE_WITHDRAWN
from app.signatures.signing.sealing import write_receipt
from tests.support.application import sweep
from tests.support.attempts import brought_id, own_id
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.mailed_links import link_of, prove, sign_and_prove, token_of
from tests.support.outbox import insert_mute_endpoint, pending, pending_bodies, pending_types, signer_of
from tests.support.partner_posts import Poster, item
from tests.support.partners import PETITION, SLUG, Partner, campaign_of, insert_partner, insert_partnership
from tests.support.settings import RING
from tests.support.tallies import exact_counts
from tests.support.types import Headers, Json

AMINA = str(person(1)["email"])
TO_A = [{"organization": SLUG, "given": True}]
# Words that nobody but the stranger says.
STRANGE = {"given_name": "Mallory", "family_name": "Malice", "country": "AQ", "locale": "fr", "comment": "Obey."}
OWN = {"given_name": "Amina", "family_name": "Okello", "country": "UG", "locale": "sw", "comment": "For my sister."}
KEPT = ("people", "consents", "contacts", "signer_feed_entries")


class Told(NamedTuple):
    """All that an organization is told of whoever consented to it: its list, its feed, and its webhooks."""

    listed: list[Json]
    fed: list[Json]
    hooked: list[Json]

    @property
    def of_nobody(self) -> bool:
        return not (self.listed or self.fed or self.hooked)


@pytest.fixture
async def listening(database: Database, partnership: Partner) -> UUID:
    return await insert_mute_endpoint(database, partnership.organization_id, "signature.counted", SIGNATURE_WITHDRAWN)


@pytest.fixture
def told(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: UUID
) -> Callable[[], Awaitable[Told]]:
    """What the partner is told now, once the worker has done all that is due."""

    async def told() -> Told:
        await sweep(database)
        listed = await client.get(f"/v1/organizations/{SLUG}/people", headers=partnership.key)
        fed = await client.get(f"/v1/partners/{SLUG}/signers", headers=partnership.key)
        bodies = await pending_bodies(database, listening)
        hooked = [
            signer
            for body in bodies
            if body is not None and body["type"] == "signature.counted"
            for signer in body["data"]["signatures"]
        ]
        return Told(listed.json()["items"], fed.json()["items"], hooked)

    return told


async def sign(client: httpx.AsyncClient, petition: str = PETITION, **said: object) -> Json:
    """Somebody signs with Amina's address; the answer."""
    answer = await client.post(f"/v1/petitions/{petition}/signatures", json=person(1, **said))
    assert answer.status_code == 201, answer.text
    signed: Json = answer.json()
    return signed


async def withdraw(client: httpx.AsyncClient, signed: Json, receipt: str | None = None) -> None:
    answer = await client.post(signed["links"]["withdraw"], json={"receipt": receipt or signed["receipt"]})
    assert answer.status_code == 200, answer.text


async def kept(database: Database) -> dict[str, int]:
    return {table: (await run(database, f"SELECT count(*) FROM {table}"))[0][0] for table in KEPT}


async def test_a_partner_without_a_partnership_reads_nobody(
    client: httpx.AsyncClient, database: Database, stranger: Headers, partnership: Partner
) -> None:
    await sign_and_prove(client, PETITION, person(1, **OWN, consents=[{"organization": "movement", "given": True}]))
    await sign(client, **STRANGE, consents=[{"organization": "strangers", "given": True}])
    await sweep(database)
    at = "/v1/organizations/strangers/people"
    answer = await client.get(at, headers=stranger)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:multitude:problem:no-partnership")
    assert "items" not in answer.json()
    organization_id = (await run(database, "SELECT id FROM organizations WHERE slug = 'strangers'"))[0][0]
    await insert_partnership(database, organization_id, partnership.campaign_id, receives_signers=False)
    assert (await client.get(at, headers=stranger)).status_code == 403
    await run(database, "UPDATE partnerships SET receives_signers = true")
    assert (await client.get(at, headers=stranger)).json()["items"] == []


async def test_a_partner_is_shown_what_came_with_the_consent_to_it_and_nothing_said_elsewhere(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, data_officer: Headers
) -> None:
    await insert_petition(database, "elsewhere")
    own = person(1, **OWN, consents=[{"organization": "movement", "given": True}])
    await sign_and_prove(client, "elsewhere", own)
    here = {"given_name": "A.", "family_name": "O.", "locale": "en"}
    await sign_and_prove(client, PETITION, person(1, **here, consents=TO_A))
    listed, fed, hooked = await told()
    for (shown,) in (listed, fed, hooked):
        assert {name: shown[name] for name in here} == here
    movement = (await client.get("/v1/organizations/movement/people", headers=data_officer)).json()["items"]
    assert [(one["given_name"], one["family_name"], one["locale"]) for one in movement] == [("Amina", "Okello", "sw")]


async def test_a_partner_is_shown_nobody_of_petitions_that_its_terms_do_not_cover(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database
) -> None:
    await insert_petition(database, "not-covered")
    await sign_and_prove(client, "not-covered", person(1, **OWN, consents=TO_A))
    assert (await told()).of_nobody


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_a_stranger_lays_no_mine(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, listening: UUID,
    confirmation: str,
) -> None:  # fmt: skip
    await run(database, "UPDATE petitions SET confirmation = :confirmation", confirmation=confirmation)
    mine = await sign(client, **STRANGE, consents=TO_A)
    assert (await told()).of_nobody
    await withdraw(client, mine)
    assert (await told()).of_nobody
    # Months later.
    signed = await sign(client, **OWN)
    await prove(client, await link_of(client, signed, AMINA))
    assert (await told()).of_nobody
    assert await pending_types(database, listening) == []
    assert await kept(database) == dict.fromkeys(KEPT, 0)


async def test_a_partner_lays_no_mine_by_what_it_brings(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, partnership: Partner
) -> None:
    (brought,) = await Poster(client, partnership).bring(item(1, **STRANGE, consents=TO_A))
    assert [one["given_name"] for one in (await told()).fed] == ["Mallory"]
    # She withdraws all that is said in her name, and signs again for nobody but the movement.
    id_ = await brought_id(database, partnership.organization_id, brought["signature_id"])
    token = token_of(partnership.petition_id, AMINA, id_)
    assert (await client.post("/withdraw", data={"token": token})).status_code == 200
    assert (await told()).of_nobody
    await sign_and_prove(client, PETITION, person(1, **OWN))
    assert (await told()).of_nobody
    assert (await Poster(client, partnership).bring(item(1, **STRANGE, consents=TO_A)))[0]["status"] == "duplicate"
    assert (await told()).of_nobody


@pytest.mark.parametrize("confirmation", ["none", "email"])
@pytest.mark.parametrize("first", ["the stranger", "she"])
async def test_her_own_link_proves_nothing_of_a_strangers(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, data_officer: Headers,
    confirmation: str, first: str,
) -> None:  # fmt: skip
    await run(database, "UPDATE petitions SET confirmation = :confirmation", confirmation=confirmation)
    says = {"she": OWN, "the stranger": STRANGE | {"consents": [*TO_A, {"organization": "movement", "given": True}]}}
    order = ["she", "the stranger"] if first == "she" else ["the stranger", "she"]
    signed = {who: await sign(client, **says[who]) for who in order}
    await prove(client, await link_of(client, signed["she"], AMINA), range(20))
    assert (await told()).of_nobody
    assert await kept(database) == dict.fromkeys(KEPT, 0)
    (row,) = await run(database, "SELECT id, country, state, proven FROM signatures")
    assert (own_id(row.id), *row[1:]) == (signed["she"]["id"], "UG", "confirmed", True)
    assert (await client.get("/v1/organizations/movement/people", headers=data_officer)).json()["items"] == []
    tally = (await client.get(f"/v1/petitions/{PETITION}/tally?by=country", headers=data_officer)).json()
    assert [(one["key"], one["signature_count"]) for one in tally["rows"]] == [("UG", 1)]


async def test_a_strangers_name_does_not_outlive_the_confirmed_one(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, partnership: Partner
) -> None:
    await Poster(client, partnership).bring(item(1, **STRANGE, consents=TO_A))
    assert [one["given_name"] for one in (await told()).listed] == ["Mallory"]
    await sign_and_prove(client, PETITION, person(1, **OWN, consents=TO_A))
    listed, fed, hooked = await told()
    assert [(one["given_name"], one["locale"], one["proven"]) for one in listed] == [("Amina", "sw", True)]
    for shown in (fed, hooked):
        assert {(one["given_name"], one["country"], one["consent"]["proven"]) for one in shown} == {
            ("Amina", "UG", True)
        }
    # Nor does it come back.
    await sign(client, **STRANGE, consents=TO_A)
    assert await told() == (listed, fed, hooked)


Way = Callable[[httpx.AsyncClient, Database, Partner, Json], Awaitable[None]]


async def _by_receipt(client: httpx.AsyncClient, database: Database, partnership: Partner, brought: Json) -> None:
    id_ = await brought_id(database, partnership.organization_id, brought["signature_id"])
    receipt = write_receipt(RING, partnership.petition_id, signer_of(1), id_)
    body = {"receipt": receipt}
    assert (await client.post(f"/v1/petitions/{PETITION}/withdrawals", json=body)).status_code == 200


async def _by_proven_receipt(
    client: httpx.AsyncClient, database: Database, partnership: Partner, brought: Json
) -> None:
    id_ = await brought_id(database, partnership.organization_id, brought["signature_id"])
    token = token_of(partnership.petition_id, AMINA, id_)
    body = {"receipt": (await prove(client, token))["receipt"]}
    assert (await client.post(f"/v1/petitions/{PETITION}/withdrawals", json=body)).status_code == 200


async def _on_her_own_page(client: httpx.AsyncClient, database: Database, *_: Any) -> None:
    async with database.transaction() as session:
        key = (await begin(session, RING, signer_of(1), Details(AMINA))).key
    answer = await client.post(f"/v1/me/signatures/{PETITION}/withdraw", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text


async def _by_mailed_link(client: httpx.AsyncClient, database: Database, partnership: Partner, brought: Json) -> None:
    id_ = await brought_id(database, partnership.organization_id, brought["signature_id"])
    token = token_of(partnership.petition_id, AMINA, id_)
    assert (await client.post("/withdraw", data={"token": token})).status_code == 200


@pytest.mark.parametrize("way", [_by_receipt, _by_proven_receipt, _on_her_own_page, _by_mailed_link])
async def test_withdrawing_takes_back_the_attested_consents_that_came_with_it_on_every_way(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, partnership: Partner,
    listening: UUID, way: Way,
) -> None:  # fmt: skip
    (brought,) = await Poster(client, partnership).bring(item(1, consents=TO_A))
    assert all(await told())
    id_ = await brought_id(database, partnership.organization_id, brought["signature_id"])
    await way(client, database, partnership, brought)
    assert (await told()).of_nobody
    assert await exact_counts(database) == {PETITION: 0}
    entries = await run(database, "SELECT given, proven, attempt_id FROM consents ORDER BY id")
    assert [tuple(row) for row in entries] == [
        (True, False, id_),
        (False, False, id_),
    ]
    assert await run(database, "SELECT 1 FROM contacts") == []
    withdrawn = [one.content for one in await pending(database, listening) if one.type == SIGNATURE_WITHDRAWN]
    assert [(one["signature_id"], one["brought"]) for one in withdrawn] == [(brought["signature_id"], True)]


async def test_what_a_partner_attests_is_its_own_and_no_others(
    client: httpx.AsyncClient, told: Callable[[], Awaitable[Told]], database: Database, partnership: Partner
) -> None:
    others_id, key = await insert_partner(database, "others")
    await insert_partnership(database, others_id, await campaign_of(database, partnership.petition_id))
    consents = [*TO_A, {"organization": "others", "given": True}]
    await run(database, 'UPDATE partnerships SET consents = \'[{"organization": "others", "answer": "asked"}]\'')
    (brought,) = await Poster(client, partnership).bring(item(1, consents=consents))
    assert brought["status"] == "counted", brought
    assert [one["proven"] for one in (await told()).listed] == [False]
    for url in ("/v1/organizations/others/people", "/v1/partners/others/signers"):
        assert (await client.get(url, headers=key)).json()["items"] == []
