"""Every test is of one tier, and whoever names a tier names one that there is."""

import re
from pathlib import Path

import pytest

from tests.support.tiers import TIERS, tiers_of

_MARK = re.compile(r"pytest\.mark\.(\w+)")
# Marks that are no tiers: pytest's own.
_OTHERS = {"parametrize", "timeout", "skipif", "usefixtures", "filterwarnings"}


def test_every_test_is_of_one_tier(request: pytest.FixtureRequest) -> None:
    assert {item.nodeid: tiers_of(item) for item in request.session.items if len(tiers_of(item)) != 1} == {}


def test_every_tier_that_is_named_is_known(root: Path) -> None:
    named = {name for file in root.glob("tests/**/*.py") for name in _MARK.findall(file.read_text(encoding="utf-8"))}
    assert named - _OTHERS <= TIERS.keys()
    told = (root / "Makefile").read_text(encoding="utf-8") + (root / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"TIER=(\w+)", told)) <= TIERS.keys()
    (listed,) = re.findall(r"^TIERS := (.*)$", told, re.MULTILINE)
    assert listed.split() == list(TIERS)


def test_a_file_of_one_tier_has_no_test_of_another(root: Path) -> None:
    for file in root.glob("tests/**/test_*.py"):
        text = file.read_text(encoding="utf-8")
        said = [name for name in _MARK.findall(text) if name in TIERS]
        if re.search(r"^pytestmark = pytest\.mark\.\w+$", text, re.MULTILINE):
            assert len(said) <= 1, file
