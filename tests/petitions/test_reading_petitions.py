"""Who is shown which petitions, and for how long they may be kept."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx

from app.kit.clock import now

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]
MakeKey = Callable[..., Awaitable[Headers]]


async def _publish(client: httpx.AsyncClient, headers: Headers, *slugs: str) -> None:
    for slug in slugs:
        assert (await client.post(f"/v1/petitions/{slug}/publish", headers=headers)).status_code == 200


async def _slugs(client: httpx.AsyncClient, at: str, headers: Headers | None = None) -> list[str]:
    return [item["slug"] for item in (await client.get(at, headers=headers)).json()["items"]]


async def test_a_petition_is_found_by_id_and_by_slug(client: httpx.AsyncClient, published: Json) -> None:
    by_slug = (await client.get(f"/v1/petitions/{published['slug']}")).json()
    by_id = (await client.get(f"/v1/petitions/{published['id']}")).json()
    assert by_slug == by_id
    assert by_id["links"] == {
        "campaign": f"/v1/campaigns/{published['campaign_id']}",
        "signatures": "/v1/petitions/repeal-the-act/signatures",
        "count": "/v1/petitions/repeal-the-act/count",
        "tally": "/v1/petitions/repeal-the-act/tally",
        "stream": "/v1/petitions/repeal-the-act/stream",
    }


async def test_a_draft_is_shown_to_staff_only(client: httpx.AsyncClient, draft: Draft, analyst: Headers) -> None:
    await draft()
    at = "/v1/petitions/repeal-the-act"
    hidden, missing = await client.get(at), await client.get("/v1/petitions/not-there")
    assert hidden.status_code == missing.status_code == 404
    ids = ("request_id",)
    assert [v for k, v in hidden.json().items() if k not in ids] == [
        v for k, v in missing.json().items() if k not in ids
    ]
    assert (await client.get(at, headers=analyst)).json()["state"] == "draft"
    assert await _slugs(client, "/v1/petitions") == []
    assert await _slugs(client, "/v1/petitions", analyst) == ["repeal-the-act"]


async def test_the_public_may_keep_a_petition_for_a_moment_and_key_holders_may_not(
    client: httpx.AsyncClient, published: Json, analyst: Headers
) -> None:
    for at in (f"/v1/petitions/{published['slug']}", "/v1/petitions"):
        public = await client.get(at)
        assert public.headers["cache-control"] == "public, max-age=5, s-maxage=10"
        assert public.headers["etag"]
        assert "Accept-Language" in public.headers["vary"]
        again = await client.get(at, headers={"If-None-Match": public.headers["etag"]})
        assert again.status_code == 304
        private = await client.get(at, headers=analyst)
        assert private.headers["cache-control"].startswith("private")


async def test_a_list_is_read_page_by_page_newest_first(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    for number in range(5):
        await draft(f"petition-{number}")
    seen, cursor = [], ""
    while cursor is not None:
        at = f"/v1/petitions?limit=2{cursor and '&cursor='}{cursor}"
        page = (await client.get(at, headers=campaigner)).json()
        seen += [item["slug"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [f"petition-{number}" for number in reversed(range(5))]
    assert (await client.get("/v1/petitions?cursor=nonsense")).status_code == 422


async def test_a_campaign_lists_its_own_petitions(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft, campaign: str
) -> None:
    await draft("ours")
    other = {"slug": "another", "title": "Another", "goal": "Another goal"}
    await client.post("/v1/campaigns", json=other, headers=campaigner)
    body = {"slug": "theirs", "title": "Theirs", "ask": "Theirs."}
    await client.post("/v1/campaigns/another/petitions", json=body, headers=campaigner)
    await _publish(client, campaigner, "ours", "theirs")
    assert await _slugs(client, f"/v1/campaigns/{campaign}/petitions") == ["ours"]
    assert await _slugs(client, "/v1/petitions") == ["theirs", "ours"]
    assert (await client.get("/v1/campaigns/nowhere/petitions")).status_code == 404


async def test_a_list_minds_the_clock(
    client: httpx.AsyncClient,
    campaigner: Headers,
    draft: Draft,
    let_pass: Callable[[timedelta], Awaitable[None]],
) -> None:
    soon = (now() + timedelta(hours=1)).isoformat()
    await draft("opens", opens_at=soon)
    await draft("closes", closes_at=soon)
    await draft("stays")
    await _publish(client, campaigner, "closes")
    assert await _slugs(client, "/v1/petitions?state=open") == ["closes"]
    await let_pass(timedelta(hours=1))
    assert await _slugs(client, "/v1/petitions?state=open") == ["opens"]
    assert await _slugs(client, "/v1/petitions?state=closed") == ["closes"]
    assert await _slugs(client, "/v1/petitions?state=draft", campaigner) == ["stays"]
    assert await _slugs(client, "/v1/petitions?state=draft") == []


async def test_a_partner_sees_what_the_public_sees(
    client: httpx.AsyncClient, draft: Draft, owner: Headers, make_key: MakeKey
) -> None:
    await client.post("/v1/organizations", json={"slug": "friends", "name": "Friends"}, headers=owner)
    partner = await make_key("partner", "friends")
    await draft()
    assert (await client.get("/v1/petitions/repeal-the-act", headers=partner)).status_code == 404
    assert await _slugs(client, "/v1/petitions", partner) == []
