"""Choosing a language by `Accept-Language`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.text.locales import canonical, negotiate

AVAILABLE = ["en", "de-AT", "fr", "pt-BR", "zh-Hant"]


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("fr", "fr"),
        ("FR", "fr"),
        ("fr;q=0.1, en;q=0.9", "en"),
        ("fr , en", "fr"),
        ("fr;q=0.5, de-at;q=0.5", "fr"),
        ("fr ; q=0.2,de-AT ; q=0.25", "de-AT"),
        # Lookup shortens what is asked for, from the end (RFC 4647, section 3.4).
        ("fr-CA", "fr"),
        ("zh-Hant-TW-x-private1, en;q=0.5", "zh-Hant"),
        ("de-DE, fr;q=0.5", "fr"),
        # Who reads `pt` is served with what there is of it.
        ("pt-PT, pt;q=0.9, fr;q=0.8", "pt-BR"),
        ("de", "de-AT"),
        # The wildcard stands for whatever is left, the default first.
        ("*", "en"),
        ("sw, *;q=0.1", "en"),
        ("*, en;q=0", "de-AT"),
        # Refused is refused, also where shortening leads to it, but not what is wished for more closely.
        ("fr;q=0, *", "en"),
        ("en-GB, en;q=0, fr;q=0.1", "fr"),
        ("de;q=0, de-AT", "de-AT"),
        # Nobody is left without words.
        ("", "en"),
        ("sw", "en"),
        ("en;q=0", "en"),
        # What cannot be read is passed over.
        ("fr;q=2, de-AT;q=0.1", "de-AT"),
        ("f*r, ;;, en-, =, fr;level=1, pt-BR", "pt-BR"),
    ],
)
def test_the_reader_gets_the_best_there_is(header: str, answer: str) -> None:
    assert negotiate(header, AVAILABLE, "en") == answer


@given(st.text(alphabet="enfrdezh-*;q=0.19, \t", max_size=60), st.sets(st.sampled_from(AVAILABLE), min_size=1))
def test_whatever_is_asked_for_the_answer_is_something_there_is(header: str, available: set[str]) -> None:
    assert negotiate(header, sorted(available), min(available)) in available


def test_a_tag_has_one_spelling() -> None:
    assert canonical("en-gb") == "en-GB"
    assert canonical("zh-HANT-tw") == "zh-Hant-TW"
    assert canonical("es-419") == "es-419"
    assert canonical("sl-ROZAJ") == "sl-rozaj"
