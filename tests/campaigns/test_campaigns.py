"""Campaigns: started, read, changed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Headers = dict[str, str]
MakeKey = Callable[..., Awaitable[Headers]]

METRIC = {"name": "countries where it is a crime", "start": 76, "target": 0}
CAMPAIGN: dict[str, Any] = {"slug": "end-the-ban", "title": "End the ban", "goal": "No country punishes love"}
AT = "/v1/campaigns/end-the-ban"


async def start(client: httpx.AsyncClient, staff: Headers, **more: object) -> dict[str, Any]:
    answer = await client.post("/v1/campaigns", json=CAMPAIGN | more, headers=staff)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_campaign_starts_active_with_its_goal_in_one_form(
    client: httpx.AsyncClient, campaigner: Headers
) -> None:
    made = await start(client, campaigner)
    assert made["state"] == "active"
    assert made["goal"] == {"statement": CAMPAIGN["goal"], "metric": None}
    assert (made["targets"], made["updates"], made["outcome"]) == ([], [], None)
    assert (await client.get(AT)).json() == made
    assert (await client.get(f"/v1/campaigns/{made['id']}")).json() == made


async def test_a_metric_starts_at_its_start(client: httpx.AsyncClient, campaigner: Headers) -> None:
    goal = {"statement": "No country punishes love", "metric": METRIC}
    made = await start(client, campaigner, goal=goal)
    assert made["goal"]["metric"] == METRIC | {"current": 76}
    goal["metric"] = METRIC | {"current": 64.5}
    answer = await client.patch(AT, json={"goal": goal}, headers=campaigner)
    assert answer.json()["goal"]["metric"] == METRIC | {"current": 64.5}
    answer = await client.patch(AT, json={"goal": "Just love"}, headers=campaigner)
    assert answer.json()["goal"] == {"statement": "Just love", "metric": None}


async def test_a_metric_is_told_in_finite_numbers(client: httpx.AsyncClient, campaigner: Headers) -> None:
    headers = campaigner | {"Content-Type": "application/json"}
    for number in ["NaN", "Infinity", "-Infinity", "1e999", '"7"', "true", "1" * 400, "null"]:
        metric = f'{{"name": "n", "start": {number}, "target": 0}}'
        body = f'{{"slug": "s", "title": "t", "goal": {{"statement": "g", "metric": {metric}}}}}'
        answer = await client.post("/v1/campaigns", content=body, headers=headers)
        assert answer.status_code == 422, number
        assert answer.headers["content-type"] == "application/problem+json"


MALFORMED: list[dict[str, object]] = [
    {"slug": "End The Ban"},
    {"slug": "0192f0c4-7d5e-7000-8000-000000000001"},
    {"title": " "},
    {"title": "two\nlines"},
    {"title": "\ud800"},
    {"goal": ""},
    {"goal": None},
    {"goal": {"metric": METRIC}},
    {"goal": {"statement": "g", "metric": {"name": "half"}}},
    {"goal": 7},
    {"state": "won"},
    {"story": "\x00"},
    {"targets": None},
    {"targets": [{"role": "nameless"}]},
    {"unknown": 1},
]


async def test_a_malformed_campaign_is_refused(client: httpx.AsyncClient, campaigner: Headers) -> None:
    headers = campaigner | {"Content-Type": "application/json"}
    for wrong in MALFORMED:
        answer = await client.post("/v1/campaigns", content=json.dumps(CAMPAIGN | wrong), headers=headers)
        assert answer.status_code == 422, wrong
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_slug_is_taken_once_even_in_a_race(client: httpx.AsyncClient, campaigner: Headers) -> None:
    tries = [client.post("/v1/campaigns", json=CAMPAIGN, headers=campaigner) for _ in range(3)]
    answers = await asyncio.gather(*tries)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]


async def test_an_unknown_campaign_is_not_found(client: httpx.AsyncClient, campaigner: Headers) -> None:
    for ref in ("nothing", "0192f0c4-7d5e-7000-8000-000000000001", "%00", "%ED%A0%80", "a" * 3000):
        at = f"/v1/campaigns/{ref}"
        assert (await client.get(at)).status_code == 404
        assert (await client.get(f"{at}/updates")).status_code == 404
        assert (await client.patch(at, json={}, headers=campaigner)).status_code == 404
        assert (await client.put(f"{at}/targets", json=[], headers=campaigner)).status_code == 404


async def test_only_staff_see_a_draft(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, analyst: Headers, make_key: MakeKey
) -> None:
    await start(client, campaigner, state="draft")
    await client.post("/v1/organizations", json={"slug": "partner-a", "name": "A"}, headers=owner)
    for headers in ({}, await make_key("partner", "partner-a")):
        assert (await client.get(AT, headers=headers)).status_code == 404
        assert (await client.get(f"{AT}/updates", headers=headers)).status_code == 404
        for asked in ({}, {"state": "draft"}):
            page = await client.get("/v1/campaigns", params=asked, headers=headers)
            assert page.json() == {"items": [], "next_cursor": None}
    assert (await client.get(AT, headers=analyst)).status_code == 200
    page = await client.get("/v1/campaigns", params={"state": "draft"}, headers=analyst)
    assert [item["slug"] for item in page.json()["items"]] == ["end-the-ban"]


async def test_only_campaigners_and_owners_write(
    client: httpx.AsyncClient, owner: Headers, campaigner: Headers, make_key: MakeKey
) -> None:
    await client.post("/v1/organizations", json={"slug": "partner-a", "name": "A"}, headers=owner)
    await start(client, campaigner)
    writes: list[tuple[str, str, object]] = [
        ("POST", "/v1/campaigns", CAMPAIGN | {"slug": "other"}),
        ("PATCH", AT, {"title": "New"}),
        ("PUT", f"{AT}/targets", [{"name": "Parliament"}]),
        ("POST", f"{AT}/updates", {"title": "t", "text": "t"}),
        ("DELETE", f"{AT}/updates/0192f0c4-7d5e-7000-8000-000000000001", None),
    ]
    callers = [({}, 401), (await make_key("partner", "partner-a"), 403)]
    callers += [(await make_key(role), 403) for role in ("analyst", "data_officer")]
    for headers, status in callers:
        for method, at, body in writes:
            answer = await client.request(method, at, json=body, headers=headers)
            assert answer.status_code == status, (method, at)
    for method, at, body in writes:
        answer = await client.request(method, at, json=body, headers=owner)
        assert answer.status_code not in {401, 403}, (method, at)


async def test_the_list_is_filtered_and_told_page_by_page(client: httpx.AsyncClient, campaigner: Headers) -> None:
    for slug in ("a", "b", "c"):
        await start(client, campaigner, slug=slug)
    await client.patch("/v1/campaigns/b", json={"state": "paused"}, headers=campaigner)
    first = (await client.get("/v1/campaigns", params={"limit": 2})).json()
    rest = (await client.get("/v1/campaigns", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["slug"] for item in first["items"] + rest["items"]] == ["c", "b", "a"]
    assert rest["next_cursor"] is None
    active = (await client.get("/v1/campaigns", params={"state": "active"})).json()
    assert [item["slug"] for item in active["items"]] == ["c", "a"]
    assert (await client.get("/v1/campaigns", params={"state": "over"})).status_code == 422


async def test_a_change_touches_only_what_it_names(client: httpx.AsyncClient, campaigner: Headers) -> None:
    made = await start(client, campaigner, story="Long ago")
    assert (await client.patch(AT, json={}, headers=campaigner)).json() == made
    changed = (await client.patch(AT, json={"title": "End it"}, headers=campaigner)).json()
    assert changed == made | {"title": "End it", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > made["updated_at"]


async def test_null_clears_what_is_optional_and_is_refused_for_the_rest(
    client: httpx.AsyncClient, campaigner: Headers
) -> None:
    await start(client, campaigner, story="Long ago")
    for field in ("title", "goal", "state"):
        assert (await client.patch(AT, json={field: None}, headers=campaigner)).status_code == 422
    given = {"outcome": "Nearly", "outcome_on": "2026-01-02"}
    assert (await client.patch(AT, json=given, headers=campaigner)).json().items() >= given.items()
    cleared = dict.fromkeys(("story", "outcome", "outcome_on"))
    assert (await client.patch(AT, json=cleared, headers=campaigner)).json().items() >= cleared.items()


async def test_targets_are_replaced_and_keep_their_order(client: httpx.AsyncClient, campaigner: Headers) -> None:
    await start(client, campaigner, targets=[{"name": "Parliament"}])
    targets = [
        {"name": "Zoe Minister", "role": "Minister of Justice", "organization": "Government"},
        {"name": "Ada Speaker", "role": None, "organization": None},
    ]
    answer = await client.put(f"{AT}/targets", json=targets, headers=campaigner)
    assert (answer.status_code, answer.json()) == (200, targets)
    assert (await client.get(AT)).json()["targets"] == targets
    malformed: list[object] = [{}, None, [{}], [{"name": "x", "email": "x"}], [{"name": "x"}] * 101]
    for wrong in malformed:
        answer = await client.put(f"{AT}/targets", json=wrong, headers=campaigner)
        assert answer.status_code == 422
    assert (await client.put(f"{AT}/targets", json=[], headers=campaigner)).json() == []
    assert (await client.get(AT)).json()["targets"] == []


async def test_an_unchanged_campaign_is_not_sent_twice(client: httpx.AsyncClient, campaigner: Headers) -> None:
    await start(client, campaigner)
    for path in (AT, "/v1/campaigns", f"{AT}/updates"):
        first = await client.get(path)
        assert first.headers["cache-control"] == "public, max-age=30, s-maxage=60"
        assert first.headers["vary"] == "Authorization"
        tag = first.headers["etag"]
        for asked in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await client.get(path, headers={"If-None-Match": asked})
            assert (again.status_code, again.content) == (304, b"")
            for name in ("etag", "cache-control", "vary"):
                assert again.headers[name] == first.headers[name]
    await client.patch(AT, json={"title": "New"}, headers=campaigner)
    changed = await client.get(AT, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["title"]) == (200, "New")


async def test_what_a_key_holder_reads_is_kept_by_no_cache(client: httpx.AsyncClient, campaigner: Headers) -> None:
    await start(client, campaigner)
    for path in (AT, "/v1/campaigns", f"{AT}/updates"):
        answer = await client.get(path, headers=campaigner)
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["vary"] == "Authorization"
