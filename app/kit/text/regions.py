"""Regions: the subdivisions of ISO 3166-2, as old as the installed `pycountry`, by their names and codes.

What is not on the list is not a region that everybody knows, and may be anything that somebody typed.
"""

import re

import pycountry

from app.kit.text.folding import folded

# Some names bring the one in another language of the country: `Cardiff [Caerdydd GB-CRD]`.
_BRACKETED = re.compile(r"^(?P<name>[^\[]+?)(?: \[(?P<other>.+?)(?: [A-Z]{2}-[A-Z0-9]{1,3})?\])?$")


def _spellings(code: str, name: str) -> tuple[str, list[str]]:
    """The name that is stored, and every form in which it is found."""
    match = _BRACKETED.match(name)
    stored, other = (match["name"], match["other"]) if match else (name, None)
    return stored, [stored, *([other] if other else []), code, code.partition("-")[2]]


def _listed() -> dict[tuple[str, str], str]:
    """Names before codes: a code that is also the name of another region stands for that."""
    named: dict[tuple[str, str], str] = {}
    coded: dict[tuple[str, str], str] = {}
    for one in sorted(pycountry.subdivisions, key=lambda one: one.code):
        stored, (*names, code, short) = _spellings(one.code, one.name)
        for spelling in names:
            named.setdefault((one.country_code, spelling), stored)
            named.setdefault((one.country_code, folded(spelling)), stored)
        for spelling in (code, short):
            coded.setdefault((one.country_code, folded(spelling)), stored)
    return coded | named


_LISTED = _listed()


def region_name(country: str, text: str) -> str | None:
    """The name under which ISO 3166-2 lists this region of a country (alpha-2), however it is spelt; None if not."""
    # Most front ends offer a list: then the first look finds it, in a tenth of the time.
    return _LISTED.get((country, text)) or _LISTED.get((country, folded(text)))
