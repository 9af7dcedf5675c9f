"""A partner's API keys are its own to rotate, and no others are."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

Headers = dict[str, str]
MakeKey = Callable[..., Awaitable[Headers]]

OWN = "/v1/organizations/sisters/api-keys"


@pytest.fixture
async def partner(client: httpx.AsyncClient, owner: Headers, make_key: MakeKey) -> Headers:
    """The first key of the partner `sisters`, beside which there is the partner `brothers`."""
    for slug in ("sisters", "brothers"):
        await client.post("/v1/organizations", json={"slug": slug, "name": slug}, headers=owner)
    return await make_key("partner", "sisters")


async def made_with(client: httpx.AsyncClient, headers: Headers, **more: object) -> tuple[str, Headers]:
    """A new key of the partner: its id, and the headers to use it."""
    answer = await client.post(OWN, json={"role": "partner", **more}, headers=headers)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    return answer.json()["id"], {"Authorization": f"Bearer {answer.json()['key']}"}


async def test_a_partner_rotates_its_key(client: httpx.AsyncClient, partner: Headers) -> None:
    ((old,), _) = (await client.get(OWN, headers=partner)).json().values()
    answer = await client.post(f"{OWN}/{old['id']}/rotate", headers=partner)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    renewed = {"Authorization": f"Bearer {answer.json()['key']}"}
    assert (await client.get(OWN, headers=partner)).status_code == 401
    listed = await client.get(OWN, headers=renewed)
    (shown,) = listed.json()["items"]
    assert (shown["id"], shown["expires_at"], shown["revoked_at"]) == (old["id"], old["expires_at"], None)
    assert shown["prefix"] != old["prefix"]
    assert renewed["Authorization"].removeprefix("Bearer ") not in listed.text


async def test_a_key_is_rotated_by_itself_alone(client: httpx.AsyncClient, partner: Headers, owner: Headers) -> None:
    """Otherwise an owner could make any other owner's key their own."""
    id_, other = await made_with(client, partner)
    for headers in (partner, owner):
        assert (await client.post(f"{OWN}/{id_}/rotate", headers=headers)).status_code == 403
    assert (await client.post(f"{OWN}/{id_}/rotate", headers=other)).status_code == 200


async def test_a_partner_makes_no_key_of_staff(client: httpx.AsyncClient, partner: Headers) -> None:
    for role in ("owner", "campaigner", "analyst", "data_officer"):
        answer = await client.post(OWN, json={"role": role}, headers=partner)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:role-not-offered")
    assert len((await client.get(OWN, headers=partner)).json()["items"]) == 1


async def test_a_stolen_key_reaches_no_other_organization(
    client: httpx.AsyncClient, partner: Headers, make_key: MakeKey, owner: Headers
) -> None:
    brothers = await make_key("partner", "brothers")
    (theirs,) = (await client.get("/v1/organizations/brothers/api-keys", headers=brothers)).json()["items"]
    for ref in ("brothers", "movement", "nobody"):
        there = f"/v1/organizations/{ref}/api-keys"
        answers = [
            await client.get(there, headers=partner),
            await client.post(there, json={"role": "partner"}, headers=partner),
            await client.delete(f"{there}/{theirs['id']}", headers=partner),
        ]
        told = {(answer.status_code, answer.json()["type"]) for answer in answers}
        assert told == {(404, "urn:multitude:problem:organization-not-found")}
    assert (await client.delete(f"{OWN}/{theirs['id']}", headers=partner)).status_code == 404
    kept = (await client.get("/v1/organizations/brothers/api-keys", headers=brothers)).json()["items"]
    assert [key["revoked_at"] for key in kept] == [None]
    assert (await client.get("/v1/organizations", headers=owner)).status_code == 200


async def test_a_partner_without_a_key_is_given_one_by_an_owner(
    client: httpx.AsyncClient, partner: Headers, owner: Headers
) -> None:
    (only,) = (await client.get(OWN, headers=partner)).json()["items"]
    assert (await client.delete(f"{OWN}/{only['id']}", headers=partner)).status_code == 204
    assert (await client.get(OWN, headers=partner)).status_code == 401
    _, again = await made_with(client, owner)
    assert (await client.get(OWN, headers=again)).status_code == 200


async def test_staff_who_are_no_owners_have_no_say_in_keys(
    client: httpx.AsyncClient, partner: Headers, campaigner: Headers, analyst: Headers, data_officer: Headers
) -> None:
    for headers in (campaigner, analyst, data_officer):
        assert (await client.get(OWN, headers=headers)).status_code == 403
        assert (await client.post(OWN, json={"role": "partner"}, headers=headers)).status_code == 403
