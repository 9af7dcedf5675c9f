"""The words of our pages: the same pages, with the same values, in every language."""

import string
import tomllib
from pathlib import Path

import pytest
from fastapi import Request

import app.people
from app.kit.web.html_pages import Pages

FOLDER = Path(app.people.__file__).parent / "pages"
WORDS = {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.toml")}
VALUES = {"minutes": 15, "days": 30, "organization": "<b>", "token": "t", "key": "k", "wrong": True}


def values_in(word: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(word) if name}


def test_every_language_has_the_same_words_with_the_same_values() -> None:
    shapes = {
        locale: {
            (page, name): frozenset(values_in(word)) for page, words in pages.items() for name, word in words.items()
        }
        for locale, pages in WORDS.items()
    }
    assert sorted(shapes) == ["ar", "de", "en", "es", "fr"]
    assert all(shape == shapes["en"] for shape in shapes.values())


@pytest.mark.parametrize("locale", sorted(WORDS))
@pytest.mark.parametrize("page", sorted(WORDS["en"]))
def test_every_page_can_be_shown_in_every_language(page: str, locale: str) -> None:
    headers = [(b"accept-language", locale.encode())]
    answer = Pages(FOLDER).answer(Request({"type": "http", "headers": headers}), page, status=418, **VALUES)
    body = bytes(answer.body).decode()
    assert answer.status_code == 418
    assert answer.headers["content-language"] == locale
    assert WORDS[locale][page]["title"] in body.replace("&#39;", "'")
    assert "<b>" not in body
    assert (FOLDER / f"{page}.html").exists()
