"""What is not approved is neither seen nor signed."""

from typing import Any

import httpx

Headers = dict[str, str]
Json = dict[str, Any]

AT = "/v1/petitions/repeal-the-act"
SIGNING = {"given_name": "Amina", "family_name": "Okello", "email": "amina@example.org", "country": "UG"}


async def _moderate(client: httpx.AsyncClient, headers: Headers, moderation: str, reason: str) -> Json:
    body = {"moderation": moderation, "reason": reason}
    answer = await client.put(f"{AT}/moderation", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    view: Json = answer.json()
    return view


async def test_only_an_approved_petition_is_seen_and_signed(
    client: httpx.AsyncClient, campaigner: Headers, published: Json
) -> None:
    for moderation in ("pending", "rejected", "removed"):
        view = await _moderate(client, campaigner, moderation, "It names a private person.")
        assert (view["moderation"], view["moderation_reason"]) == (moderation, "It names a private person.")
        assert (await client.get(AT)).status_code == 404
        assert (await client.get("/v1/petitions")).json()["items"] == []
        assert (await client.post(f"{AT}/signatures", json=SIGNING)).status_code in {404, 409}
        assert (await client.get(AT, headers=campaigner)).json()["state"] == "open"
    await _moderate(client, campaigner, "approved", "It was corrected.")
    assert (await client.get(AT)).status_code == 200
    assert (await client.post(f"{AT}/signatures", json=SIGNING)).status_code == 201


async def test_the_reason_is_for_staff(
    client: httpx.AsyncClient, campaigner: Headers, analyst: Headers, published: Json
) -> None:
    await _moderate(client, campaigner, "approved", "It was corrected.")
    assert (await client.get(AT)).json()["moderation_reason"] is None
    assert (await client.get(AT, headers=analyst)).json()["moderation_reason"] == "It was corrected."


async def test_moderating_is_for_campaigners_and_takes_a_known_word(
    client: httpx.AsyncClient, campaigner: Headers, analyst: Headers, published: Json
) -> None:
    at, body = f"{AT}/moderation", {"moderation": "removed"}
    assert (await client.put(at, json=body)).status_code == 401
    assert (await client.put(at, json=body, headers=analyst)).status_code == 403
    assert (await client.put(at, json={"moderation": "banned"}, headers=campaigner)).status_code == 422
    assert (await client.put("/v1/petitions/no/moderation", json=body, headers=campaigner)).status_code == 404
    assert (await client.get(AT)).status_code == 200
