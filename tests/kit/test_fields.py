"""What a slug, a line, a text and a moment are."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.kit.text.fields import Body, Day, Flag, Line, Locale, Moment, Name, Paragraph, Slug, Text, as_id, changed

ID = "0192f0c4-7d5e-7000-8000-000000000001"


def accepted(kind: Any, value: object) -> object:
    return TypeAdapter(kind).validate_python(value)


def refused(kind: Any, value: object) -> bool:
    try:
        accepted(kind, value)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("slug", ["a", "7", "end-the-ban", "a-1-b", "a" * 80, "0192f0c4-7d5e-7000-8000"])
def test_a_slug_is_words_in_a_row(slug: str) -> None:
    assert accepted(Slug, slug) == slug


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "-",
        "a-",
        "-a",
        "a--b",
        "A",
        "é",
        "a b",
        "a_b",
        "a/b",
        "a\n",
        "a" * 81,
        ID,
        7,
    ],
)
def test_anything_else_is_no_slug(wrong: object) -> None:
    assert refused(Slug, wrong)


@pytest.mark.parametrize("kind", [Line, Name])
def test_a_line_is_trimmed_and_is_one(kind: Any) -> None:
    assert accepted(kind, "  Amina Okello ") == "Amina Okello"
    assert accepted(kind, "Ñandú 山田 عائشة 👩🏾‍🦱") == "Ñandú 山田 عائشة 👩🏾‍🦱"
    for wrong in ("", "  ", "two\nlines", "\x00", "a\x7f", "a\u2028b", "\u202eevil", "a\u2066b", "a" * 201, None, 7):
        assert refused(kind, wrong)


@pytest.mark.parametrize("kind", [Text, Paragraph])
def test_a_text_may_have_lines_but_no_control_characters(kind: Any) -> None:
    assert accepted(kind, " one\n\ttwo\r\n") == "one\n\ttwo"
    for wrong in ("\x00", "a\x1bb", "a\x85b", "a" * 20_001):
        assert refused(kind, wrong)
    assert refused(Text, " ")
    assert accepted(Paragraph, " ") == ""


@given(st.text(max_size=300))
def test_what_is_accepted_can_be_stored(text: str) -> None:
    for kind in (Line, Name, Text, Paragraph):
        if not refused(kind, text):
            stored = str(accepted(kind, text))
            assert "\x00" not in stored
            stored.encode()


@pytest.mark.parametrize("locale", ["en", "fil", "pt-BR", "zh-Hant-TW"])
def test_a_locale_is_a_language_tag(locale: str) -> None:
    assert accepted(Locale, locale) == locale
    for wrong in ("", "e", "english-", "EN", "en_GB", "en\n", "a" * 40):
        assert refused(Locale, wrong)


def test_a_moment_is_told_in_utc() -> None:
    assert accepted(Moment, "2026-11-22T12:00:00+03:00") == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert accepted(Moment, datetime(2026, 11, 22, tzinfo=UTC)) == datetime(2026, 11, 22, tzinfo=UTC)
    for wrong in ("2026-11-22T12:00:00", "9999-12-31T23:59:59-23:59", "soon", "", None):
        assert refused(Moment, wrong)
    for seconds in (0, 1.5, "0", "-1", "1495584000", True):
        assert refused(Moment, seconds)


def test_a_day_is_written_out() -> None:
    assert accepted(Day, "2026-11-22") == date(2026, 11, 22)
    for wrong in (0, "0", "1495584000", "-1", "22.11.2026", True, None):
        assert refused(Day, wrong)


def test_a_flag_is_true_or_false_and_no_word_for_it() -> None:
    assert accepted(Flag, True) is True
    for wrong in ("true", "yes", "on", 1, 0, None):
        assert refused(Flag, wrong)


def test_a_reference_that_spells_an_id_is_one() -> None:
    id_ = UUID(ID)
    assert as_id(str(id_)) == as_id(str(id_).upper()) == id_
    for other in ("end-the-ban", id_.hex, f"{{{id_}}}", f"urn:uuid:{id_}", "", "\x00", f"{id_}\n"):
        assert as_id(other) is None


class _Change(Body):
    """Two fields."""

    title: Line | None = None
    story: Text | None = None


def test_a_change_names_what_was_sent_and_nothing_else() -> None:
    assert changed(_Change.model_validate({"story": None})) == {"story": None}
    assert changed(_Change.model_validate({})) == {}
    with pytest.raises(ValidationError):
        _Change.model_validate({"titel": "misspelt"})
