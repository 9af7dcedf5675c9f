"""Tiers: every test is of one, so that some can be run without the others (`pytest --tier unit`).

A test says its tier only when it is not seen by what it asks for. A file of one tier says it once,
`pytestmark = pytest.mark.slow`, and is not even read when another tier is run.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import services

TIERS = {
    "unit": "code alone: no PostgreSQL, no program of ours; at most a server in this process",
    "db": "against PostgreSQL, the application in this process",
    "process": "starts programs as an operator does, or kills them",
    "slow": "many made-up cases or samples of time: seconds for each test",
}
_OF_A_FILE = re.compile(r"^pytestmark = pytest\.mark\.(\w+)$", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=list(TIERS), help="run the tests of this tier alone")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whether a file says that all of it is of another tier; None leaves the question to others."""
    chosen = config.getoption("--tier")
    if chosen is None or collection_path.suffix != ".py":
        return None
    said = _OF_A_FILE.search(collection_path.read_text(encoding="utf-8"))
    return True if said and said[1] in TIERS and said[1] != chosen else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its tier, and put aside those of the others."""
    chosen = config.getoption("--tier")
    for item in items:
        if not tiers_of(item):
            item.add_marker("db" if "cluster" in getattr(item, "fixturenames", ()) else "unit")
    if chosen is not None:
        others = [item for item in items if chosen not in tiers_of(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if chosen in tiers_of(item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Only a test that says so may start our programs."""
    services.may_start = not {"unit", "db"} & tiers_of(item)
    return (yield)


def tiers_of(item: pytest.Item) -> set[str]:
    """The tiers a test is marked with: one, unless somebody has made a mistake (`tests/house/test_tiers.py`)."""
    return {mark.name for mark in item.iter_markers()} & TIERS.keys()
