"""News of a campaign."""

from typing import Any

import httpx
import pytest

from app.kit.clock import now

Headers = dict[str, str]

AT = "/v1/campaigns/end-the-ban"


@pytest.fixture(autouse=True)
async def campaign(client: httpx.AsyncClient, campaigner: Headers) -> None:
    body = {"slug": "end-the-ban", "title": "End the ban", "goal": "No ban"}
    assert (await client.post("/v1/campaigns", json=body, headers=campaigner)).status_code == 201


async def tell(client: httpx.AsyncClient, staff: Headers, title: str, **more: object) -> dict[str, Any]:
    body = {"title": title, "text": "First line\nsecond line"} | more
    answer = await client.post(f"{AT}/updates", json=body, headers=staff)
    assert answer.status_code == 201
    told: dict[str, Any] = answer.json()
    return told


async def test_an_update_is_dated_today_unless_it_says_otherwise(
    client: httpx.AsyncClient, campaigner: Headers
) -> None:
    before = now().date()
    told = await tell(client, campaigner, "The hearing")
    assert before.isoformat() <= told["published_on"] <= now().date().isoformat()
    told = await tell(client, campaigner, "Long ago", published_on="2020-02-29")
    assert told["published_on"] == "2020-02-29"


async def test_a_campaign_shows_its_newest_updates_and_the_list_shows_all(
    client: httpx.AsyncClient, campaigner: Headers
) -> None:
    titles = [str((await tell(client, campaigner, f"News {n}"))["title"]) for n in range(22)]
    newest_first = titles[::-1]
    shown = (await client.get(AT)).json()["updates"]
    assert [update["title"] for update in shown] == newest_first[:20]
    first = (await client.get(f"{AT}/updates", params={"limit": 20})).json()
    assert first["items"] == shown
    rest = (await client.get(f"{AT}/updates", params={"cursor": first["next_cursor"]})).json()
    assert [update["title"] for update in rest["items"]] == newest_first[20:]


async def test_an_update_can_be_taken_back(client: httpx.AsyncClient, campaigner: Headers) -> None:
    told = await tell(client, campaigner, "A mistake")
    path = f"{AT}/updates/{told['id']}"
    answer = await client.delete(path, headers=campaigner)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(AT)).json()["updates"] == []
    assert (await client.delete(path, headers=campaigner)).status_code == 404
    assert (await client.delete(f"{AT}/updates/nothing", headers=campaigner)).status_code == 404


async def test_an_update_is_taken_back_only_through_its_own_campaign(
    client: httpx.AsyncClient, campaigner: Headers
) -> None:
    told = await tell(client, campaigner, "Here")
    other = {"slug": "other", "title": "Other", "goal": "Other"}
    await client.post("/v1/campaigns", json=other, headers=campaigner)
    answer = await client.delete(f"/v1/campaigns/other/updates/{told['id']}", headers=campaigner)
    assert answer.status_code == 404
    assert len((await client.get(AT)).json()["updates"]) == 1


async def test_a_malformed_update_is_refused(client: httpx.AsyncClient, campaigner: Headers) -> None:
    wrong: list[dict[str, object]] = [
        {"title": ""},
        {"text": " "},
        {"published_on": "yesterday"},
        {"by": "me"},
    ]
    for change in wrong:
        body = {"title": "t", "text": "t"} | change
        answer = await client.post(f"{AT}/updates", json=body, headers=campaigner)
        assert answer.status_code == 422
