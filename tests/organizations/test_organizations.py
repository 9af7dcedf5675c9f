"""The movement and its partners, over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

Headers = dict[str, str]
MakeKey = Callable[..., Awaitable[Headers]]

PARTNER = {"slug": "sisters-of-kampala", "name": "Sisters of Kampala"}


async def test_an_owner_adds_a_partner(client: httpx.AsyncClient, owner: Headers) -> None:
    answer = await client.post("/v1/organizations", json=PARTNER, headers=owner)
    assert answer.status_code == 201
    assert answer.json().items() >= {**PARTNER, "kind": "partner"}.items()


async def test_a_slug_is_taken_once_even_in_a_race(client: httpx.AsyncClient, owner: Headers) -> None:
    tries = [client.post("/v1/organizations", json=PARTNER, headers=owner) for _ in range(3)]
    answers = await asyncio.gather(*tries)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["type"] == "urn:multitude:problem:slug-taken"


async def test_nobody_adds_a_second_movement(client: httpx.AsyncClient, owner: Headers) -> None:
    body = {**PARTNER, "kind": "movement"}
    assert (await client.post("/v1/organizations", json=body, headers=owner)).status_code == 422
    body = {"slug": "movement", "name": "Another"}
    assert (await client.post("/v1/organizations", json=body, headers=owner)).status_code == 409


async def test_an_organization_is_found_by_slug_and_by_id(
    client: httpx.AsyncClient, owner: Headers, analyst: Headers
) -> None:
    made = (await client.post("/v1/organizations", json=PARTNER, headers=owner)).json()
    for ref in (made["slug"], made["id"], made["id"].upper()):
        answer = await client.get(f"/v1/organizations/{ref}", headers=analyst)
        assert (answer.status_code, answer.json()) == (200, made)


async def test_an_unknown_organization_is_not_found(client: httpx.AsyncClient, owner: Headers) -> None:
    for ref in ("nobody", "0192f0c4-7d5e-7000-8000-000000000001", "%00", "%F0%9F%8C%8D", "a" * 3000):
        answer = await client.get(f"/v1/organizations/{ref}", headers=owner)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_owner_renames_an_organization_and_its_slug_stays(client: httpx.AsyncClient, owner: Headers) -> None:
    await client.post("/v1/organizations", json=PARTNER, headers=owner)
    path = f"/v1/organizations/{PARTNER['slug']}"
    answer = await client.patch(path, json={"name": "Sisters"}, headers=owner)
    assert (answer.status_code, answer.json()["name"]) == (200, "Sisters")
    assert (await client.get(path, headers=owner)).json() == answer.json()
    for body in ({"name": None}, {"slug": "other"}, {}, {"name": ""}):
        assert (await client.patch(path, json=body, headers=owner)).status_code == 422


async def test_the_list_is_told_page_by_page_newest_first(client: httpx.AsyncClient, owner: Headers) -> None:
    for slug in ("a", "b", "c"):
        await client.post("/v1/organizations", json={"slug": slug, "name": slug}, headers=owner)
    seen, cursor = [], None
    while True:
        asked = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/organizations", params=asked, headers=owner)).json()
        seen += [item["slug"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["c", "b", "a", "movement"]


async def test_a_cursor_that_was_not_given_out_is_refused(client: httpx.AsyncClient, owner: Headers) -> None:
    for asked in ({"cursor": "é"}, {"cursor": "abc"}, {"limit": "0"}, {"limit": "x"}):
        answer = await client.get("/v1/organizations", params=asked, headers=owner)
        assert answer.status_code == 422


async def test_only_owners_write_and_only_staff_read(
    client: httpx.AsyncClient, owner: Headers, make_key: MakeKey
) -> None:
    await client.post("/v1/organizations", json=PARTNER, headers=owner)
    path = f"/v1/organizations/{PARTNER['slug']}"
    keys = f"{path}/api-keys"
    owners_only: list[tuple[str, str, object]] = [
        ("POST", "/v1/organizations", {"slug": "new", "name": "New"}),
        ("PATCH", path, {"name": "New"}),
    ]
    # And a partner's own: see `test_own_keys.py`.
    of_keys: list[tuple[str, str, object]] = [
        ("POST", keys, {"role": "partner"}),
        ("GET", keys, None),
        ("DELETE", f"{keys}/0192f0c4-7d5e-7000-8000-000000000001", None),
    ]
    callers = [({}, 401), (await make_key("partner", PARTNER["slug"]), 403)]
    callers += [(await make_key(role), 403) for role in ("campaigner", "analyst", "data_officer")]
    for number, (headers, status) in enumerate(callers):
        for method, at, body in owners_only + (of_keys if number != 1 else []):
            answer = await client.request(method, at, json=body, headers=headers)
            assert answer.status_code == status, (method, at)
    for headers, _ in callers[:2]:
        assert (await client.get("/v1/organizations", headers=headers)).status_code in {401, 403}
        assert (await client.get(path, headers=headers)).status_code in {401, 403}
    for headers, _ in callers[2:]:
        assert (await client.get("/v1/organizations", headers=headers)).status_code == 200
        assert (await client.get(path, headers=headers)).status_code == 200
