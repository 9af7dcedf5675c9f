"""Counting what nobody has proven is chosen in words, warned of, and never chosen later."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.kit.database.session import Database
from tests.support.databases import run
from tests.support.factories import UNPROVEN
from tests.support.types import Headers, Json

Draft = Callable[..., Awaitable[Json]]

BODY: Json = {"slug": "repeal-the-act", "title": "Repeal the Act", "ask": "Repeal the Act."}
AT = "/v1/petitions/repeal-the-act"


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]


async def test_a_petition_confirms_by_mail_unless_told_otherwise(draft: Draft) -> None:
    drafted = await draft()
    assert (drafted["confirmation"], drafted["accept_unproven"], drafted["warnings"]) == ("email", False, [])


REFUSED: list[tuple[Json, str]] = [
    ({"confirmation": "none"}, "unproven-not-accepted"),
    ({"confirmation": "none", "accept_unproven": False}, "unproven-not-accepted"),
    ({"accept_unproven": True}, "nothing-unproven"),
    ({"confirmation": "email", "accept_unproven": True}, "nothing-unproven"),
    ({"confirmation": "none", "accept_unproven": "true"}, "invalid"),
]


@pytest.mark.parametrize(("said", "slug"), REFUSED)
async def test_half_a_word_is_refused_when_drafting_and_when_changing(
    client: httpx.AsyncClient, campaigner: Headers, campaign: str, said: Json, slug: str
) -> None:
    at = f"/v1/campaigns/{campaign}/petitions"
    answer = await client.post(at, json=BODY | said, headers=campaigner)
    assert (answer.status_code, slug_of(answer)) == (422, slug)
    assert (await client.post(at, json=BODY, headers=campaigner)).status_code == 201
    answer = await client.patch(AT, json=said, headers=campaigner)
    assert (answer.status_code, slug_of(answer)) == (422, slug)
    assert (await client.get(AT, headers=campaigner)).json()["confirmation"] == "email"


async def test_who_chooses_it_in_words_is_warned_and_the_public_is_not_bothered(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    drafted = await draft(**UNPROVEN)
    assert (drafted["confirmation"], drafted["accept_unproven"]) == ("none", True)
    assert [warning["code"] for warning in drafted["warnings"]] == ["unproven-signatures"]
    assert "anyone" in drafted["warnings"][0]["message"]
    published = (await client.post(f"{AT}/publish", headers=campaigner)).json()
    assert published["warnings"] == drafted["warnings"]
    shown = (await client.get(AT)).json()
    assert (shown["confirmation"], shown["accept_unproven"], shown["warnings"]) == ("none", True, [])


async def test_a_draft_may_change_its_mind_and_an_open_petition_in_one_direction_only(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    async def change(**changes: Any) -> tuple[Any, ...]:
        answer = await client.patch(AT, json=changes, headers=campaigner)
        told = answer.json()
        if answer.status_code != 200:
            return answer.status_code, slug_of(answer)
        return told["confirmation"], told["accept_unproven"], len(told["warnings"])

    await draft()
    assert await change(**UNPROVEN) == ("none", True, 1)
    assert await change(title="Repeal it") == ("none", True, 1)
    assert await change(confirmation="none") == ("none", True, 1), "it stands, and needs no second word"
    assert await change(accept_unproven=False) == (422, "unproven-not-accepted")
    assert await change(confirmation="email") == ("email", False, 0)
    assert await change(**UNPROVEN) == ("none", True, 1)
    await client.post(f"{AT}/publish", headers=campaigner)
    assert await change(confirmation="email") == ("email", True, 1), "what it has taken stays among its tallies"
    assert await change(**UNPROVEN) == (409, "confirmation-chosen")
    assert await change(confirmation="email", title="Repeal it all") == ("email", True, 1)


async def test_what_stood_before_counts_as_accepted(
    client: httpx.AsyncClient, campaigner: Headers, published: Json, database: Database
) -> None:
    """As the version before wrote it, and writes it while both serve."""
    await run(database, "UPDATE petitions SET confirmation = 'none', accept_unproven = false")
    shown = (await client.get(AT, headers=campaigner)).json()
    assert (shown["accept_unproven"], len(shown["warnings"])) == (True, 1)
    assert (await client.patch(AT, json={"title": "Repeal it"}, headers=campaigner)).status_code == 200


async def test_staff_say_which_regions_and_sources_may_stand_in_clear(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft
) -> None:
    drafted = await draft(allowed_regions=["Nairobi West"], allowed_sources=["spring-2026"])
    assert (drafted["allowed_regions"], drafted["allowed_sources"]) == (["Nairobi West"], ["spring-2026"])
    for wrong in (
        {"allowed_regions": []},
        {"allowed_regions": ["Gulu", "GULU"]},
        {"allowed_regions": ["  "]},
        {"allowed_sources": ["-"]},
        {"allowed_sources": ["a b"]},
        {"allowed_sources": ["spring-26", "spring26"]},
    ):
        assert (await client.patch(AT, json=wrong, headers=campaigner)).status_code == 422, wrong
    cleared = await client.patch(AT, json={"allowed_regions": None, "allowed_sources": None}, headers=campaigner)
    assert (cleared.json()["allowed_regions"], cleared.json()["allowed_sources"]) == (None, None)
