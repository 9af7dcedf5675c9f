"""What staff decide against abuse and about personal data, and who is told."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from tests.support import second_person
from tests.support.databases import run

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]

AT = "/v1/petitions/repeal-the-act"
DAY = timedelta(days=1)
TODAY = now().date()
WRONG_STATE = "urn:multitude:problem:wrong-state"


async def test_a_petition_can_ask_for_confirmation_by_email(draft: Draft) -> None:
    assert (await draft(confirmation="email"))["confirmation"] == "email"


async def test_everybody_is_told_of_the_challenge_and_the_day_and_staff_alone_of_the_limit(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, published: Json
) -> None:
    assert (published["challenge"], published["address_limit"], published["personal_data_until"]) == (
        "none",
        None,
        None,
    )
    day = (TODAY + DAY).isoformat()
    changes = {"challenge": "altcha", "address_limit": 30, "personal_data_until": day}
    changed = (await second_person.send(client, owner, "PATCH", AT, campaigner, changes)).json()
    assert changed.items() >= changes.items()
    shown = (await client.get(AT)).json()
    assert (shown["challenge"], shown["personal_data_until"], shown["address_limit"]) == ("altcha", day, None)
    assert (await client.get("/v1/petitions")).json()["items"][0]["challenge"] == "altcha"
    back = {"challenge": "none", "address_limit": None, "personal_data_until": None}
    assert (await client.patch(AT, json=back, headers=campaigner)).json().items() >= back.items()


async def test_what_makes_no_sense_against_abuse_changes_nothing(
    client: httpx.AsyncClient, campaigner: Headers, published: Json
) -> None:
    for wrong in ({"challenge": None}, {"challenge": "riddle"}, {"address_limit": 0}, {"personal_data_until": "soon"}):
        assert (await client.patch(AT, json=wrong, headers=campaigner)).status_code == 422, wrong
    assert (await client.get(AT, headers=campaigner)).json() == published


async def test_personal_data_is_kept_at_least_until_the_day_of_closing(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    closes_at = now() + 3 * DAY
    on_the_day = closes_at.date().isoformat()
    await draft(closes_at=closes_at.isoformat(), personal_data_until=on_the_day)
    before = (closes_at - DAY).date().isoformat()
    for wrong in ({"personal_data_until": before}, {"closes_at": (closes_at + DAY).isoformat()}):
        answer = await client.patch(AT, json=wrong, headers=campaigner)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:wrong-times")
    both = {"closes_at": (closes_at + DAY).isoformat(), "personal_data_until": (closes_at + DAY).date().isoformat()}
    assert (await client.patch(AT, json=both, headers=campaigner)).status_code == 200


@pytest.mark.parametrize("ago", [0, 1, 1000])
async def test_a_day_that_has_come_already_cannot_be_set(
    client: httpx.AsyncClient, campaigner: Headers, campaign: str, published: Json, ago: int
) -> None:
    come = {"personal_data_until": (now().date() - ago * DAY).isoformat()}
    new = {"slug": "another", "title": "Another", "ask": "Another.", **come}
    for answer in (
        await client.patch(AT, json=come, headers=campaigner),
        await client.post(f"/v1/campaigns/{campaign}/petitions", json=new, headers=campaigner),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:wrong-times")
        assert answer.json()["detail"] == "`personal_data_until` must be after today (UTC)."
    assert (await client.get(AT, headers=campaigner)).json() == published
    assert (await client.get("/v1/petitions/another", headers=campaigner)).status_code == 404


async def test_a_day_that_has_come_does_not_keep_the_rest_from_being_changed(
    client: httpx.AsyncClient, database: Database, campaigner: Headers, published: Json
) -> None:
    await run(database, "UPDATE petitions SET personal_data_until = current_date - 1")
    changes = {"title": "Repeal it", "personal_data_until": (TODAY - DAY).isoformat()}
    assert (await client.patch(AT, json=changes, headers=campaigner)).status_code == 200


async def test_a_petition_whose_day_has_come_is_reopened_only_once_it_was_moved(
    client: httpx.AsyncClient, database: Database, campaigner: Headers, published: Json
) -> None:
    await client.post(f"{AT}/close", headers=campaigner)
    await run(database, "UPDATE petitions SET personal_data_until = current_date")
    refused = await client.post(f"{AT}/reopen", headers=campaigner)
    assert (refused.status_code, refused.json()["type"]) == (409, WRONG_STATE)
    moved = await client.patch(AT, json={"personal_data_until": (TODAY + DAY).isoformat()}, headers=campaigner)
    assert moved.status_code == 200
    too_long = {"closes_at": (now() + 3 * DAY).isoformat()}
    assert (await client.post(f"{AT}/reopen", json=too_long, headers=campaigner)).status_code == 422
    assert (await client.post(f"{AT}/reopen", headers=campaigner)).json()["state"] == "open"


async def test_once_the_personal_data_is_destroyed_nothing_brings_the_petition_back(
    client: httpx.AsyncClient, database: Database, campaigner: Headers, published: Json
) -> None:
    await client.post(f"{AT}/close", headers=campaigner)
    await run(database, "UPDATE petitions SET personal_data_until = current_date, personal_data_destroyed_at = now()")
    later = {"personal_data_until": (TODAY + DAY).isoformat()}
    for answer in (
        await client.patch(AT, json=later, headers=campaigner),
        await client.post(f"{AT}/reopen", headers=campaigner),
    ):
        assert (answer.status_code, answer.json()["type"]) == (409, WRONG_STATE)
    assert (await client.get(AT, headers=campaigner)).json()["personal_data_destroyed_at"] is not None
    assert (await client.get(AT)).json()["personal_data_destroyed_at"] is None
