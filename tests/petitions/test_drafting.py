"""Drafting a petition, and changing it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx

from app.kit.clock import now

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]

BODY: Json = {"slug": "repeal-the-act", "title": "Repeal the Act", "ask": "Repeal the Act."}
SOON = (now() + timedelta(hours=1)).isoformat()
LATER = (now() + timedelta(hours=2)).isoformat()
PAST = (now() - timedelta(hours=1)).isoformat()


async def test_a_new_petition_is_a_draft_with_everything_it_was_given(draft: Draft) -> None:
    petition = await draft(
        background="Why.",
        target="The minister",
        signature_goal=5000,
        next_goal_automatic=False,
        locale="en-gb",
        texts={"fr": {"title": "Abrogez", "ask": "Abrogez la loi."}},
        allowed_countries=["ug", "KE"],
        opens_at=SOON,
        closes_at=LATER,
        milestones=[{"signature_count": 2000}, {"signature_count": 1000, "label": "A thousand of us"}],
    )
    assert petition["state"] == "draft"
    assert petition["moderation"] == "approved"
    assert petition["confirmation"] == "email"
    assert (petition["signature_goal"], petition["next_goal_automatic"]) == (5000, False)
    assert (petition["own_locale"], petition["locales"]) == ("en-GB", ["en-GB", "fr"])
    assert petition["allowed_countries"] == ["UG", "KE"]
    assert [m["signature_count"] for m in petition["milestones"]] == [1000, 2000]
    assert petition["milestones"][0]["label"] == "A thousand of us"
    assert petition["opens_at"] < petition["closes_at"]


async def test_a_petition_needs_no_more_than_a_slug_a_title_and_an_ask(
    client: httpx.AsyncClient, campaigner: Headers, campaign: str
) -> None:
    answer = await client.post(f"/v1/campaigns/{campaign}/petitions", json=BODY, headers=campaigner)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/petitions/repeal-the-act"
    petition = answer.json()
    assert (petition["signature_goal"], petition["next_goal_automatic"]) == (100, True)
    assert petition["allowed_countries"] is None
    assert petition["links"]["count"] == "/v1/petitions/repeal-the-act/count"


SENSELESS: list[Json] = [
    {"slug": "Repeal The Act"},
    {"title": ""},
    {"title": None},
    {"ask": "   "},
    {"signature_goal": 0},
    {"signature_goal": 1_000_000_001},
    {"locale": "English"},
    {"texts": {"not a locale": {"title": "T", "ask": "A"}}},
    {"texts": {"fr": {"title": "T"}}},
    {"allowed_countries": []},
    {"allowed_countries": ["XX"]},
    {"allowed_countries": ["UG", "ug"]},
    {"milestones": [{"signature_count": 0}]},
    {"milestones": [{"signature_count": 10}, {"signature_count": 10}]},
    {"opens_at": "2030-01-01T00:00:00"},
    {"closes_at": PAST},
    {"opens_at": LATER, "closes_at": SOON},
    {"confirmation": "sms"},
    {"challenge": "captcha"},
    {"address_limit": 0},
    {"address_limit": 1_000_001},
    {"personal_data_until": "some day"},
    {"closes_at": LATER, "personal_data_until": "2020-01-01"},
    {"goal": 100},
]


async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient, campaigner: Headers, campaign: str) -> None:
    at = f"/v1/campaigns/{campaign}/petitions"
    for wrong in SENSELESS:
        answer = await client.post(at, json=BODY | wrong, headers=campaigner)
        assert answer.status_code == 422, wrong
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get(at, headers=campaigner)).json()["items"] == []


async def test_the_own_words_are_not_said_twice(client: httpx.AsyncClient, campaigner: Headers, campaign: str) -> None:
    body = BODY | {"texts": {"en": {"title": "T", "ask": "A"}}}
    answer = await client.post(f"/v1/campaigns/{campaign}/petitions", json=body, headers=campaigner)
    assert answer.status_code == 409


async def test_a_slug_is_taken_once_over_all_campaigns(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    await draft("repeal-the-act")
    other = {"slug": "another", "title": "Another", "goal": "Another goal"}
    await client.post("/v1/campaigns", json=other, headers=campaigner)
    answer = await client.post("/v1/campaigns/another/petitions", json=BODY, headers=campaigner)
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:multitude:problem:slug-taken"


async def test_there_is_no_petition_without_a_campaign(client: httpx.AsyncClient, campaigner: Headers) -> None:
    answer = await client.post("/v1/campaigns/nowhere/petitions", json=BODY, headers=campaigner)
    assert answer.status_code == 404


async def test_only_campaigners_and_owners_draft(
    client: httpx.AsyncClient, campaign: str, owner: Headers, analyst: Headers
) -> None:
    at = f"/v1/campaigns/{campaign}/petitions"
    assert (await client.post(at, json=BODY)).status_code == 401
    assert (await client.post(at, json=BODY, headers=analyst)).status_code == 403
    assert (await client.post(at, json=BODY, headers=owner)).status_code == 201


async def test_a_change_changes_what_it_names_and_nothing_else(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    before = await draft(background="Why.", target="The minister", allowed_countries=["UG"])
    at = f"/v1/petitions/{before['id']}"
    body = {"title": "New title", "background": None, "signature_goal": 700, "allowed_countries": None}
    after = (await client.patch(at, json=body, headers=campaigner)).json()
    expected = before | body | {"updated_at": after["updated_at"]}
    assert after == expected
    assert after["updated_at"] > before["updated_at"]
    assert (await client.patch(at, json={}, headers=campaigner)).json() == after


async def test_some_things_cannot_be_changed_or_taken_away(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    before = await draft()
    at = f"/v1/petitions/{before['slug']}"
    for name, value in [("slug", "other"), ("state", "open"), ("title", None), ("ask", None), ("signature_goal", None)]:
        answer = await client.patch(at, json={name: value}, headers=campaigner)
        assert answer.status_code == 422, name
    assert (await client.get(at, headers=campaigner)).json() == before


async def test_a_draft_moves_its_times_freely_but_not_into_disorder(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    at = f"/v1/petitions/{(await draft(closes_at=SOON))['slug']}"
    disorder = await client.patch(at, json={"opens_at": LATER}, headers=campaigner)
    assert disorder.status_code == 422
    assert disorder.json()["type"] == "urn:multitude:problem:wrong-times"
    order = {"opens_at": SOON, "closes_at": LATER}
    assert (await client.patch(at, json=order, headers=campaigner)).status_code == 200
    cleared = await client.patch(at, json={"opens_at": None, "closes_at": None}, headers=campaigner)
    assert (cleared.json()["opens_at"], cleared.json()["closes_at"]) == (None, None)


async def test_an_open_petition_gets_a_closing_time_that_lies_ahead(
    client: httpx.AsyncClient, campaigner: Headers, published: Json
) -> None:
    at = f"/v1/petitions/{published['slug']}"
    past = await client.patch(at, json={"closes_at": PAST}, headers=campaigner)
    assert past.status_code == 422
    assert "/close" in past.json()["detail"]
    ahead = await client.patch(at, json={"closes_at": SOON}, headers=campaigner)
    assert (ahead.status_code, ahead.json()["state"]) == (200, "open")
    opening = await client.patch(at, json={"opens_at": SOON}, headers=campaigner)
    assert opening.status_code == 409


async def test_a_closed_petition_gets_a_new_closing_time_by_being_reopened_only(
    client: httpx.AsyncClient, campaigner: Headers, published: Json
) -> None:
    at = f"/v1/petitions/{published['slug']}"
    await client.post(f"{at}/close", headers=campaigner)
    answer = await client.patch(at, json={"closes_at": SOON}, headers=campaigner)
    assert answer.status_code == 409
    assert "reopen" in answer.json()["detail"]


async def test_a_petition_that_is_not_there_cannot_be_changed_or_read(
    client: httpx.AsyncClient, campaigner: Headers
) -> None:
    for ref in ("nowhere", "%00", "0192f0c4-7d5e-7000-8000-000000000001", "UPPER", "a%2Fb"):
        at = f"/v1/petitions/{ref}"
        assert (await client.patch(at, json={}, headers=campaigner)).status_code == 404
        assert (await client.get(at)).status_code == 404
