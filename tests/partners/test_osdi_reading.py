"""OSDI for reading: from its entry point a stranger finds every public petition and its total, and nothing else."""

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.partners import Partner, insert_further_petition
from tests.support.types import Json


def _path(href: str) -> str:
    """The path of a link of ours, as this client asks for it."""
    parts = urlsplit(href)
    assert f"{parts.scheme}://{parts.netloc}" == "http://127.0.0.1:8000"
    return f"{parts.path}?{parts.query}"


async def _hal(client: httpx.AsyncClient, href: str) -> Json:
    answer = await client.get(href)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/hal+json"
    assert "s-maxage=10" in answer.headers["cache-control"]
    resource: Json = answer.json()
    assert {curie["name"] for curie in resource["_links"]["curies"]} == {"osdi", "multitude"}
    return resource


async def test_from_the_entry_point_a_stranger_finds_a_petition_and_its_total(
    client: httpx.AsyncClient, database: Database
) -> None:
    petition_id = await insert_petition(database, background="How it came to this.", target="The Parliament")
    for number in range(3):
        await client.post("/v1/petitions/end-the-ban/signatures", json=person(number))
    entry = await _hal(client, "/v1/osdi")
    assert entry["osdi_version"] == "1.2.0"
    assert (entry["namespace"], entry["max_pagesize"]) == ("multitude", 200)
    page = await _hal(client, _path(entry["_links"]["osdi:petitions"]["href"]))
    [listed] = page["_embedded"]["osdi:petitions"]
    assert page["_links"]["osdi:petitions"] == [listed["_links"]["self"]]
    shown = await _hal(client, _path(listed["_links"]["self"]["href"]))
    assert shown["identifiers"] == [f"multitude:{petition_id}"]
    assert (shown["name"], shown["title"]) == ("end-the-ban", "End the ban")
    assert shown["summary"] == shown["petition_text"] == "End it."
    assert shown["description"] == "How it came to this."
    assert shown["target"] == [{"name": "The Parliament"}]
    assert shown["total_signatures"] == listed["total_signatures"] == 3
    helper = shown["_links"]["osdi:record_signature_helper"]["href"]
    templated = entry["_links"]["osdi:record_signature_helper"]
    assert templated["templated"] is True
    assert templated["href"].replace("{petition}", "end-the-ban") == helper
    assert "browser_url" not in shown


async def test_a_petition_is_found_by_its_id_and_its_campaign_by_its_link(
    client: httpx.AsyncClient, database: Database
) -> None:
    petition_id = await insert_petition(database)
    await run(database, "UPDATE campaigns SET state = 'active'")
    shown = await _hal(client, f"/v1/osdi/petitions/{petition_id}")
    assert shown["name"] == "end-the-ban"
    campaign = await client.get(_path(shown["_links"]["multitude:campaign"]["href"]))
    assert campaign.json()["slug"] == "campaign-of-end-the-ban"


async def test_links_follow_the_addresses_an_operator_has_set(settings: Settings, database: Database) -> None:
    await insert_petition(database)
    set_ = {"public_url": "https://act.example.org/api", "petition_link": "https://example.org/p/{petition}"}
    async with serving(settings.model_copy(update=set_)) as (_, _, client):
        shown = (await client.get("/v1/osdi/petitions/end-the-ban")).json()
        entry = (await client.get("/v1/osdi")).json()
    assert shown["browser_url"] == "https://example.org/p/end-the-ban"
    assert shown["_links"]["self"]["href"] == "https://act.example.org/api/v1/osdi/petitions/end-the-ban"
    assert entry["_links"]["self"]["href"] == "https://act.example.org/api/v1/osdi"


async def _followed(client: httpx.AsyncClient, href: str) -> list[Json]:
    pages = [await _hal(client, href)]
    while "next" in pages[-1]["_links"]:
        pages.append(await _hal(client, _path(pages[-1]["_links"]["next"]["href"])))
    return pages


async def test_following_next_shows_every_petition_once(
    client: httpx.AsyncClient, partnership: Partner, database: Database
) -> None:
    for number in range(6):
        await insert_further_petition(database, partnership.campaign_id, f"petition-{number}")
    pages = await _followed(client, "/v1/osdi/petitions?per_page=3")
    names = [[petition["name"] for petition in page["_embedded"]["osdi:petitions"]] for page in pages]
    assert names == [
        ["petition-5", "petition-4", "petition-3"],
        ["petition-2", "petition-1", "petition-0"],
        ["repeal-the-act"],
    ]
    assert [page["page"] for page in pages] == [1, 2, 3]
    assert {(page["total_pages"], page["total_records"], page["per_page"]) for page in pages} == {(3, 7, 3)}
    for page in pages:
        assert await _hal(client, _path(page["_links"]["self"]["href"])) == page


async def test_a_page_holds_25_unless_more_are_asked_for(
    client: httpx.AsyncClient, partnership: Partner, database: Database
) -> None:
    for number in range(30):
        await insert_further_petition(database, partnership.campaign_id, f"petition-{number}")
    pages = await _followed(client, "/v1/osdi/petitions")
    assert [len(page["_embedded"]["osdi:petitions"]) for page in pages] == [25, 6]
    [whole] = await _followed(client, "/v1/osdi/petitions?per_page=200")
    assert len(whole["_embedded"]["osdi:petitions"]) == 31


@pytest.mark.parametrize(
    "query", ["page=2", "cursor=AaIDVe2oeU-p_Nh8H_bG2A", "page=2&cursor=nonsense", "page=0", "per_page=201"]
)
async def test_a_page_no_link_leads_to_is_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/osdi/petitions?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "hidden", [{"state": "draft", "opens_at": None}, {"moderation": "pending"}, {"moderation": "removed"}]
)
async def test_what_is_not_public_is_not_shown_whoever_asks(
    client: httpx.AsyncClient, database: Database, owner: dict[str, str], hidden: dict[str, Any]
) -> None:
    await insert_petition(database, **hidden)
    for headers in ({}, owner):
        assert (await client.get("/v1/osdi/petitions/end-the-ban", headers=headers)).status_code == 404
        page = (await client.get("/v1/osdi/petitions", headers=headers)).json()
        assert (page["total_records"], page["total_pages"]) == (0, 1)
        assert page["_embedded"]["osdi:petitions"] == []


async def test_who_has_the_answer_is_told_so(client: httpx.AsyncClient, database: Database) -> None:
    await insert_petition(database)
    for path in ("/v1/osdi", "/v1/osdi/petitions", "/v1/osdi/petitions/end-the-ban"):
        tag = (await client.get(path)).headers["etag"]
        assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 304
