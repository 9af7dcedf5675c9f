"""A partner pulls those who consented to it, at its own pace, and nobody else."""

from typing import Any

import httpx
import pytest

from app.kit.database.session import Database
from app.people.pseudonyms import person_id
from tests.support.application import sweep
from tests.support.attempts import attempt_id, told_id
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.outbox import sign_with_consent, signer_of
from tests.support.partners import PETITION, SLUG, Partner, insert_further_petition, insert_partner, insert_partnership
from tests.support.settings import RING
from tests.support.types import Headers, Json

AT = f"/v1/partners/{SLUG}/signers"


async def pull(client: httpx.AsyncClient, key: Headers, **asked: Any) -> Json:
    answer = await client.get(AT, params=asked, headers=key)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    page: Json = answer.json()
    return page


def names(page: Json) -> list[str]:
    return [signer["given_name"].removeprefix("Given") for signer in page["items"]]


async def test_signers_come_oldest_first_in_pages_and_later_ones_behind_the_cursor(
    client: httpx.AsyncClient, database: Database, partner: Headers
) -> None:
    for number in range(5):
        await sign_with_consent(client, number)
        await sweep(database)
    first = await pull(client, partner, limit=2)
    second = await pull(client, partner, limit=2, cursor=first["next_cursor"])
    third = await pull(client, partner, limit=2, cursor=second["next_cursor"])
    assert [names(page) for page in (first, second, third)] == [["0", "1"], ["2", "3"], ["4"]]
    assert [page["next_cursor"] == page["cursor"] for page in (first, second)] == [True, True]
    assert third["next_cursor"] is None
    nothing = await pull(client, partner, cursor=third["cursor"])
    assert (nothing["items"], nothing["next_cursor"]) == ([], None)
    await sign_with_consent(client, 5)
    await sweep(database)
    assert names(await pull(client, partner, cursor=nothing["cursor"])) == ["5"]
    assert names(await pull(client, partner)) == ["0", "1", "2", "3", "4", "5"]


async def test_a_cursor_that_was_given_when_there_was_nobody_can_be_kept(
    client: httpx.AsyncClient, database: Database, partner: Headers
) -> None:
    nothing = await pull(client, partner)
    assert (nothing["items"], nothing["next_cursor"]) == ([], None)
    await sign_with_consent(client, 1)
    await sweep(database)
    assert names(await pull(client, partner, cursor=nothing["cursor"])) == ["1"]


async def test_a_signer_is_shown_as_in_a_message(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    signed = await sign_with_consent(client, 1, region="Kampala")
    await sweep(database)
    (signer,) = (await pull(client, partnership.key))["items"]
    id_ = attempt_id(partnership.petition_id, signed)
    assert signer["signature_id"] == told_id(partnership.organization_id, id_)
    assert signer["person_id"] == person_id(RING, partnership.organization_id, signer_of(1))
    assert (signer["email"], signer["region"], signer["postal_code"]) == (person(1)["email"], "Kampala", None)


async def test_whom_nothing_may_be_told_of_any_more_does_not_stall_the_cursor(
    client: httpx.AsyncClient, database: Database, partner: Headers
) -> None:
    for number in range(6):
        await sign_with_consent(client, number)
    await sweep(database)
    for number in range(4):
        await run(
            database,
            "UPDATE signatures SET state = 'withdrawn', sealed = '' WHERE signer = :signer",
            signer=signer_of(number),
        )
    pages, cursor = [], None
    while True:
        page = await pull(client, partner, limit=2, **({"cursor": cursor} if cursor else {}))
        pages.append(names(page))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(pages) == 3
    assert sorted(name for page in pages for name in page) == ["4", "5"]
    assert [] in pages


async def test_a_partner_gets_those_who_consented_to_it_and_in_its_campaigns_alone(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await insert_partner(database, "others")
    await insert_petition(database, "foreign")
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2, to="others")
    await sign_with_consent(client, 3, to="movement")
    await sign_with_consent(client, 4, to=None)
    await sign_with_consent(client, 5, petition="foreign")
    await sweep(database)
    assert names(await pull(client, partnership.key)) == ["1"]


async def test_only_the_partner_itself_and_owners_may_pull(
    client: httpx.AsyncClient, database: Database, partner: Headers, owner: Headers, campaigner: Headers,
    data_officer: Headers, stranger: Headers,
) -> None:  # fmt: skip
    await sign_with_consent(client, 1)
    await sweep(database)
    assert names(await pull(client, owner)) == ["1"]
    for headers, status in (({}, 401), (campaigner, 403), (data_officer, 403), (stranger, 404)):
        assert (await client.get(AT, headers=headers)).status_code == status
    assert (await client.get("/v1/partners/movement/signers", headers=owner)).status_code == 404


async def test_a_partner_gets_those_of_the_petitions_that_its_terms_name(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    second = await insert_further_petition(database, partnership.campaign_id, "second")
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2, petition="second")
    await sweep(database)
    assert names(await pull(client, partnership.key)) == ["1", "2"]
    await run(database, "UPDATE partnerships SET petition_ids = ARRAY[CAST(:id AS uuid)]", id=second)
    assert names(await pull(client, partnership.key)) == ["2"]
    await run(database, "UPDATE petitions SET moderation = 'removed'")
    assert names(await pull(client, partnership.key)) == []


async def test_a_cursor_that_is_older_than_the_restored_database_skips_nobody(
    client: httpx.AsyncClient, database: Database, partner: Headers
) -> None:
    for number in range(3):
        await sign_with_consent(client, number)
    await sweep(database)
    # Restoring takes longer than a second, to which numbers tell when they were given.
    await run(database, "UPDATE signer_feed_entries SET number = number - 1000000")
    cursor = (await pull(client, partner))["cursor"]
    # What came after the dump is not there any more.
    for table in ("signer_feed_entries", "consents", "signatures"):
        await run(database, f"DELETE FROM {table}")
    for number in range(3, 5):
        await sign_with_consent(client, number)
    await sweep(database)
    assert names(await pull(client, partner, cursor=cursor)) == ["3", "4"]


async def test_whom_no_key_opens_yet_is_waited_for(
    client: httpx.AsyncClient, database: Database, partner: Headers
) -> None:
    for number in range(2):
        await sign_with_consent(client, number)
    await sweep(database)
    (kept,) = await run(database, "SELECT sealed FROM signatures WHERE signer = :signer", signer=signer_of(1))
    change = "UPDATE signatures SET sealed = :sealed WHERE signer = :signer"
    await run(database, change, sealed=b"xx" + kept[0][2:], signer=signer_of(1))
    first = await pull(client, partner, limit=1)
    assert names(first) == ["0"]
    answer = await client.get(AT, params={"cursor": first["cursor"]}, headers=partner)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:multitude:problem:unavailable")
    assert answer.headers["retry-after"] == "60"
    await run(database, change, sealed=kept[0], signer=signer_of(1))
    assert names(await pull(client, partner, cursor=first["cursor"])) == ["1"]


@pytest.mark.parametrize("change", ["receives_signers = false", "state = 'ended'", "state = 'invited'"])
async def test_without_terms_that_let_it_receive_signers_a_partner_is_refused(
    client: httpx.AsyncClient, database: Database, partner: Headers, change: str
) -> None:
    await sign_with_consent(client, 1)
    await sweep(database)
    await run(database, f"UPDATE partnerships SET {change}")
    answer = await client.get(AT, headers=partner)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:multitude:problem:no-partnership")


@pytest.mark.parametrize("cursor", ["x", "AAAA", "!", "é", "", "AAAAAAAAAAAAAAAAAAAAAA", "A" * 51])
async def test_a_cursor_of_ones_own_making_is_refused(client: httpx.AsyncClient, partner: Headers, cursor: str) -> None:
    answer = await client.get(AT, params={"cursor": cursor}, headers=partner)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:unknown-cursor")


async def test_anothers_cursor_is_refused(client: httpx.AsyncClient, database: Database, partnership: Partner) -> None:
    other_id, other = await insert_partner(database, "others")
    await insert_partnership(database, other_id, partnership.campaign_id)
    cursor = (await pull(client, partnership.key))["cursor"]
    answer = await client.get("/v1/partners/others/signers", params={"cursor": cursor}, headers=other)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:unknown-cursor")
    assert PETITION not in cursor
