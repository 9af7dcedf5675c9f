"""Mails and pages about a link say what is so: whether a signature counts already, and what a button does."""

import re
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from app.kit.database.session import Database
from app.organizations.models import Organization
from app.settings import Settings
from tests.support.application import running_worker
from tests.support.attempts import link_of, prove
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.smtp import SmtpServer
from tests.support.tallies import exact_counts
from tests.support.types import Json

AT = "/v1/petitions/end-the-ban"
AMINA = person(1, given_name="Amina", email="amina@example.org", locale="en")
AGREED = {"consents": [{"organization": "movement", "given": True}, {"organization": "sisters", "given": False}]}
ENGLISH = {"Accept-Language": "en"}


async def sign(client: httpx.AsyncClient, **more: object) -> Json:
    answer = await client.post(f"{AT}/signatures", json=AMINA | more)
    assert answer.status_code == 201, answer.text
    told: Json = answer.json()
    return told


async def preview(client: httpx.AsyncClient, token: str) -> Json:
    answer = await client.post("/v1/confirmations/preview", json={"token": token})
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told


async def page(client: httpx.AsyncClient, token: str, at: str = "/confirm") -> httpx.Response:
    return await client.get(at, params={"token": token}, headers=ENGLISH)


@pytest.fixture
async def mailbox(settings: Settings, database: Database) -> AsyncIterator[SmtpServer]:
    """The mailbox, to which a worker brings mails."""
    with SmtpServer() as mailbox:
        async with running_worker(settings, smtp_url=SecretStr(mailbox.url)):
            yield mailbox


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_a_preview_tells_whether_its_attempt_counts_and_not_whether_another_stands(
    client: httpx.AsyncClient, database: Database, confirmation: str
) -> None:
    petition_id = await insert_petition(database, confirmation=confirmation)
    signed = [await sign(client, given_name=name) for name in ("First", "Second")]
    told = [await preview(client, link_of(petition_id, AMINA, one)) for one in signed]
    assert [one["counts"] for one in told] == [confirmation == "none"] * 2, "one stands, the other waits"
    pages = [(await page(client, link_of(petition_id, AMINA, one))).text for one in signed]
    assert [("/withdraw?token=" in shown, "nothing happens" in shown) for shown in pages] == [
        (confirmation == "none", confirmation != "none")
    ] * 2
    await prove(client, petition_id, AMINA, signed[0])
    again = await preview(client, link_of(petition_id, AMINA, signed[1]))
    assert again == told[1], "nor whether another was proven meanwhile"
    assert (await preview(client, link_of(petition_id, AMINA, signed[0])))["counts"] is False, "no more than before"


async def test_whoever_did_not_sign_takes_away_what_is_counted_by_the_mail(
    client: httpx.AsyncClient, database: Database, mailbox: SmtpServer
) -> None:
    await insert_petition(database, confirmation="none")
    async with database.transaction() as session:
        session.add(Organization(slug="sisters", name="Sisters of Kampala", kind="partner"))
    await sign(client, **AGREED)
    assert await exact_counts(database) == {"end-the-ban": 1}
    (mail,) = await mailbox.arrived(1)
    confirm, withdraw = mail.links
    assert ("/confirm?" in confirm, "/withdraw?" in withdraw) == (True, True)
    assert ("is counted" in mail.text, "ignore" in mail.text) == (True, False)
    assert ("agreed" in mail.text, "Kampala must not write to me" in mail.text) == (False, True)
    shown = await client.get(withdraw[withdraw.index("/withdraw") :], headers=ENGLISH)
    (token,) = re.findall(r'name="token" value="([^"]+)"', shown.text)
    assert (await client.post("/withdraw", data={"token": token})).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_what_is_under_a_missing_key_is_not_called_withdrawn(
    client: httpx.AsyncClient, database: Database
) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    token = link_of(petition_id, AMINA, await sign(client))
    ((sealed,),) = await run(database, "SELECT sealed FROM signatures")
    change = "UPDATE signatures SET sealed = :sealed"
    await run(database, change, sealed=b"xx" + sealed[2:])
    told = await client.post("/v1/confirmations/preview", json={"token": token})
    assert (told.status_code, told.json()["type"]) == (503, "urn:multitude:problem:unavailable")
    shown = await page(client, token)
    assert (shown.status_code, "try again later" in shown.text) == (503, True)
    assert [answer.headers["retry-after"] for answer in (told, shown)] == ["60", "60"]
    await run(database, change, sealed=sealed)
    assert (await preview(client, token))["given_name"] == "Amina"


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_a_link_that_was_followed_before_has_nothing_left_to_do(
    client: httpx.AsyncClient, database: Database, confirmation: str
) -> None:
    petition_id: UUID = await insert_petition(database, confirmation=confirmation)
    signed = await sign(client)
    await prove(client, petition_id, AMINA, signed)
    shown = await page(client, link_of(petition_id, AMINA, signed))
    assert (shown.status_code, "is confirmed. There is nothing left to do." in shown.text) == (200, True)
    assert ("<form" in shown.text, "counts" in shown.text) == (False, False)


async def test_a_link_that_withdraws_nothing_asks_nobody_to_sign(client: httpx.AsyncClient) -> None:
    shown = await client.post("/withdraw", data={"token": "wrong"}, headers=ENGLISH)
    assert (shown.status_code, "Nothing was withdrawn" in shown.text) == (404, True)
    assert "sign again" not in shown.text
