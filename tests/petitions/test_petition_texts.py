"""A petition speaks to each reader in the best locale it has."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]

AT = "/v1/petitions/repeal-the-act"
FRENCH = {"title": "Abrogez la loi", "ask": "Abrogez-la.", "background": "Pourquoi."}
SWAHILI = {"title": "Futa sheria", "ask": "Ifute."}


@pytest.fixture
async def spoken(client: httpx.AsyncClient, campaigner: Headers, draft: Draft) -> Json:
    """An open petition in English, French and Swahili."""
    await draft(background="Why.", texts={"fr": FRENCH, "sw": SWAHILI})
    view: Json = (await client.post(f"{AT}/publish", headers=campaigner)).json()
    return view


async def _read(client: httpx.AsyncClient, languages: str) -> httpx.Response:
    return await client.get(AT, headers={"Accept-Language": languages})


async def test_the_reader_chooses_the_language(client: httpx.AsyncClient, spoken: Json) -> None:
    answer = await _read(client, "fr-CA, en;q=0.5")
    petition = answer.json()
    assert {name: petition[name] for name in FRENCH} == FRENCH
    assert (petition["locale"], petition["own_locale"]) == ("fr", "en")
    assert petition["locales"] == ["en", "fr", "sw"]
    assert answer.headers["content-language"] == "fr"
    assert "Accept-Language" in answer.headers["vary"]


async def test_what_is_not_there_in_the_language_is_not_borrowed_from_another(
    client: httpx.AsyncClient, spoken: Json
) -> None:
    assert (await _read(client, "sw")).json()["background"] is None


async def test_a_language_nobody_wrote_in_gets_the_own_words(client: httpx.AsyncClient, spoken: Json) -> None:
    answer = await _read(client, "ja")
    assert answer.json()["title"] == spoken["title"]
    assert answer.headers["content-language"] == "en"


async def test_each_language_has_its_own_etag(client: httpx.AsyncClient, spoken: Json) -> None:
    french, english = await _read(client, "fr"), await _read(client, "en")
    assert french.headers["etag"] != english.headers["etag"]
    again = await client.get(AT, headers={"Accept-Language": "fr", "If-None-Match": french.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_list_speaks_the_reader_s_language_where_it_can(
    client: httpx.AsyncClient, campaigner: Headers, draft: Draft, spoken: Json
) -> None:
    await draft("only-english", title="Only English")
    await client.post("/v1/petitions/only-english/publish", headers=campaigner)
    items = (await client.get("/v1/petitions", headers={"Accept-Language": "fr"})).json()["items"]
    assert [(item["locale"], item["title"]) for item in items] == [
        ("en", "Only English"),
        ("fr", "Abrogez la loi"),
    ]


async def test_words_are_added_replaced_and_taken_away(
    client: httpx.AsyncClient, campaigner: Headers, spoken: Json
) -> None:
    added = await client.put(f"{AT}/texts/pt-br", json=SWAHILI, headers=campaigner)
    assert (added.status_code, added.json()["locale"]) == (200, "pt-BR")
    assert added.json()["locales"] == ["en", "fr", "pt-BR", "sw"]
    replaced = await client.put(f"{AT}/texts/pt-BR", json=FRENCH, headers=campaigner)
    assert replaced.json()["title"] == FRENCH["title"]
    removed = await client.delete(f"{AT}/texts/pt-BR", headers=campaigner)
    assert (removed.status_code, removed.json()["locales"]) == (200, ["en", "fr", "sw"])
    assert (await client.delete(f"{AT}/texts/pt-BR", headers=campaigner)).status_code == 404


async def test_the_own_words_are_changed_with_the_petition_only(
    client: httpx.AsyncClient, campaigner: Headers, spoken: Json
) -> None:
    for answer in (
        await client.put(f"{AT}/texts/en", json=SWAHILI, headers=campaigner),
        await client.delete(f"{AT}/texts/en", headers=campaigner),
    ):
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:multitude:problem:own-locale"
    changed = await client.patch(AT, json={"title": "New"}, headers=campaigner | {"Accept-Language": "fr"})
    assert (changed.json()["title"], changed.json()["locale"]) == ("New", "en")


async def test_words_for_nobody_are_refused(
    client: httpx.AsyncClient, campaigner: Headers, analyst: Headers, spoken: Json
) -> None:
    at = f"{AT}/texts"
    assert (await client.put(f"{at}/not_a_locale", json=FRENCH, headers=campaigner)).status_code == 422
    assert (await client.put(f"{at}/de", json={"title": "T"}, headers=campaigner)).status_code == 422
    assert (await client.put(f"{at}/de", json=FRENCH, headers=analyst)).status_code == 403
    assert (await client.put("/v1/petitions/no/texts/de", json=FRENCH, headers=campaigner)).status_code == 404
