"""Problems: one shape, and never a word of what was sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from app.kit.problems import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    Unauthorized,
    Unavailable,
    errors_of,
    render,
)
from app.kit.text.fields import Body, Line, Moment, Slug
from app.kit.web.openapi import ProblemView

KINDS = {NotFound: 404, Conflict: 409, Invalid: 422, Unauthorized: 401, Forbidden: 403, Unavailable: 503}


class TeapotFull(Conflict):
    """The teapot is full.

    This is told to those who read the source.
    """

    slug = "teapot-full"


@pytest.mark.parametrize(("kind", "status"), KINDS.items())
def test_each_kind_has_its_status_and_a_title(kind: type[Problem], status: int) -> None:
    body = json.loads(kind().body("0123456789abcdef"))
    assert (kind.status, body["status"]) == (status, status)
    assert body["type"] == f"urn:multitude:problem:{kind.slug}"
    assert set(body) == {"type", "title", "status", "request_id"}
    assert not body["title"].endswith(".")


def test_a_problem_of_a_room_is_told_by_its_first_line() -> None:
    body = json.loads(TeapotFull("Pour first.", errors=[{"at": "body.tea", "message": "is too much"}]).body("r"))
    assert body == {
        "type": "urn:multitude:problem:teapot-full",
        "title": "The teapot is full",
        "status": 409,
        "request_id": "r",
        "detail": "Pour first.",
        "errors": [{"at": "body.tea", "message": "is too much"}],
    }
    assert ProblemView.model_validate(body).status == 409


def test_who_is_turned_away_is_told_how_to_come_back() -> None:
    assert Unauthorized().headers == {"WWW-Authenticate": "Bearer"}
    assert Unavailable(retry_after=7).headers == {"Retry-After": "7"}


def test_a_body_is_utf_8() -> None:
    assert "é".encode() in render(400, "bad", "é", "r")


class _Tea(Body):
    """Fields that fail in different ways."""

    name: Line
    slug: Slug
    poured_at: Moment | None = None
    cups: tuple[int, ...] = ()


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(body=st.dictionaries(st.sampled_from(["name", "slug", "poured_at", "cups"]) | st.text(), _ANYTHING, max_size=6))
def test_errors_say_where_and_what_but_nothing_that_was_sent(body: dict[str, Any]) -> None:
    marked = {name: "amina@example.org" if isinstance(value, str) else value for name, value in body.items()}
    marked["Amina Okello <amina@example.org>"] = "amina@example.org"
    try:
        _Tea.model_validate(marked)
    except ValidationError as error:
        told = errors_of([{**e, "loc": ("body", *e["loc"])} for e in error.errors()])
    else:
        raise AssertionError("an unknown field was let in")
    assert all(set(one) == {"at", "message"} for one in told)
    assert "body.?" in [one["at"] for one in told]
    assert "amina" not in json.dumps(told).lower()


def test_errors_of_text_that_is_no_json_quote_none_of_it() -> None:
    with pytest.raises(ValidationError) as refused:
        _Tea.model_validate_json('{"name": "Amina')
    found: list[Any] = list(refused.value.errors())
    assert errors_of(found) == [{"at": "", "message": "is not valid JSON"}]


def test_names_of_fields_and_places_in_lists_are_told() -> None:
    class Many(BaseModel):
        teas: list[_Tea]

    with pytest.raises(ValidationError) as refused:
        Many.model_validate({"teas": [{"name": "x", "slug": "No Slug"}]})
    found: list[Any] = list(refused.value.errors())
    assert [one["at"] for one in errors_of(found)] == ["teas.0.slug"]
