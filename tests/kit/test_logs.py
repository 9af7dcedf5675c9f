"""Log lines hold facts and never an exception's message, whoever wrote them."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from app.kit import logs
from app.kit.logs import failure_of, log

SECRET = "amina@example.org"
Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Read]:
    """Log as in production; what was written."""
    written = io.StringIO()
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("INFO", "json")

    def read() -> list[dict[str, Any]]:
        assert SECRET not in written.getvalue()
        return [json.loads(line) for line in written.getvalue().splitlines()]

    yield read
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def _fail() -> None:
    raise ValueError(SECRET) from KeyError(SECRET)


def test_a_line_is_json_with_its_time_and_level(lines: Read) -> None:
    log.info("swept", sweep="turn_pages", changed=3)
    (line,) = lines()
    assert (line["event"], line["level"], line["sweep"], line["changed"]) == ("swept", "info", "turn_pages", 3)
    assert line["timestamp"].endswith("Z")


def test_an_exception_is_told_by_type_and_place(lines: Read) -> None:
    try:
        _fail()
    except ValueError as error:
        log.error("failed", **failure_of(error))
        log.exception("failed")
        log.error("failed", exc_info=error)
    for line in lines():
        assert line["error"] == "builtins.ValueError"
        assert line["at"][-1].endswith(" _fail")
        assert "exception" not in line


def test_a_library_s_exception_is_told_in_the_same_way(lines: Read) -> None:
    library = logging.getLogger("a.library")
    try:
        _fail()
    except ValueError:
        library.exception("it failed")
        library.warning("it stumbled", exc_info=True, stack_info=True)
    library.info("it talked")
    told = lines()
    assert [line["event"] for line in told] == ["it failed", "it stumbled"]
    assert {line["error"] for line in told} == {"builtins.ValueError"}


def test_what_is_below_the_level_is_not_written(lines: Read) -> None:
    log.debug("a detail")
    assert lines() == []


def test_a_person_watching_reads_lines_without_messages_too(monkeypatch: pytest.MonkeyPatch, lines: Read) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("INFO", "console")
    try:
        _fail()
    except ValueError:
        log.exception("failed")
        logging.getLogger("a.library").exception("it failed")
    assert SECRET not in written.getvalue()
    assert written.getvalue().count("ValueError") == 2


def test_a_place_is_short_enough_to_read() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET) as failed:
        deep(50)
    assert len(failure_of(failed.value)["at"]) == 8
