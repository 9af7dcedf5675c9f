"""The documentation keeps up with the code: what exists is described, and what is linked exists."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase

from app.cli import cli
from app.kit import metrics
from app.kit.problems import Problem
from app.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "bench").glob("*.md")])
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _links(page: Path) -> Iterator[tuple[str, str]]:
    """A page's relative links, as (path, fragment)."""
    for target in _LINK.findall(_FENCE.sub("", _text(page))):
        if not re.match(r"[a-z]+:", target):
            path, _, fragment = target.partition("#")
            yield unquote(path), fragment


def _anchors(page: Path) -> set[str]:
    """The fragments that lead to a page's headings."""
    headings = _HEADING.findall(_FENCE.sub("", _text(page)))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _leads_somewhere(page: Path, path: str, fragment: str) -> bool:
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not fragment or target.suffix != ".md" or fragment in _anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [(path, fragment) for path, fragment in _links(page) if not _leads_somewhere(page, path, fragment)] == []


def test_every_page_can_be_found_from_the_front_page_or_the_index() -> None:
    found: set[Path] = set()
    waiting = [ROOT / "README.md", DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in found and page.suffix == ".md" and page.is_file():
            found.add(page)
            waiting += [(page.parent / path).resolve() for path, _ in _links(page) if path]
    assert [str(page.relative_to(DOCS)) for page in sorted(set(DOCS.rglob("*.md")) - found)] == []


def _setting(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"MULTITUDE_{name.upper()}"


def test_every_setting_is_described() -> None:
    described = set(re.findall(r"^\| `([A-Z_]+)` \|", _text(DOCS / "operations.md"), re.MULTILINE))
    assert described == {_setting(name) for name in Settings.model_fields}


def _problems(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    # Tests make problems of their own; the documentation owes them nothing.
    if kind.__module__.startswith("app."):
        yield kind
    for narrower in kind.__subclasses__():
        yield from _problems(narrower)


def test_every_problem_is_described_with_its_status() -> None:
    importlib.import_module("app.main")
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", _text(DOCS / "clients.md"), re.MULTILINE)
    described = {slug: int(status) for slug, status in rows}
    assert len(rows) == len(described)
    assert {problem.slug: problem.status for problem in _problems()}.items() <= described.items()


def _metric_names() -> set[str]:
    collectors = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    found = [metric for collector in collectors for metric in collector.describe()]
    return {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in found}


def test_every_metric_is_described() -> None:
    described = set(re.findall(r"^\| `(multitude_[a-z_]+)` \|", _text(DOCS / "operations.md"), re.MULTILINE))
    assert described == _metric_names()


def _commands(group: Any, names: tuple[str, ...] = ("multitude",)) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*names, name))
        else:
            yield " ".join((*names, name))


def test_every_command_is_described() -> None:
    told = "\n".join(map(_text, [ROOT / "README.md", *DOCS.rglob("*.md")]))
    commands = set(_commands(typer.main.get_command(cli)))
    assert "multitude keys create" in commands
    assert {command for command in commands if not re.search(rf"\b{command}\b", told)} == set()
