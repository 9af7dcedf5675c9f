"""Locales (BCP 47): their canonical form, and content negotiation by Accept-Language."""

import re
from collections.abc import Mapping, Sequence

# A language range and its weight (RFC 9110, section 12.4.2).
_RANGE = re.compile(r"\s*(\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?")
# No browser lists more; a header with thousands is not worth the time.
_MOST_RANGES = 20


def canonical(locale: str) -> str:
    """The usual spelling (RFC 5646, section 2.1.1): `zh-hant-tw` is `zh-Hant-TW`."""
    language, *rest = locale.split("-")
    return "-".join([language.lower(), *map(_spelt, rest)])


def _spelt(subtag: str) -> str:
    if len(subtag) == 2:  # noqa: PLR2004 - a region's length
        return subtag.upper()
    return subtag.title() if len(subtag) == 4 and subtag.isalpha() else subtag.lower()  # noqa: PLR2004 - a script's


def negotiate(accept_language: str | None, offered: Sequence[str], fallback: str) -> str:
    """The offered locale the header asks for, as it is spelt in `offered`; else the fallback.

    Each wish is tried as it stands, then shortened from its end (RFC 4647, section 3.4: `pt-BR` is met by `pt`), then
    widened (`pt` is met by `pt-BR`, which is better than another language). `*` is met by anything, the fallback first.
    A locale refused with `q=0` is given only when nothing else is left.
    """
    weights = _weights(accept_language or "")
    by_name = {locale.lower(): locale for locale in (fallback, *offered)}
    welcome = [name for name in by_name if not _refused(name, weights)]
    for wish in sorted(filter(weights.get, weights), key=weights.__getitem__, reverse=True):
        found = _nearest(wish, welcome)
        if found is not None:
            return by_name[found]
    return fallback


def _weights(header: str) -> dict[str, float]:
    """The header's language ranges in lower case, in their order; unreadable ones are left out."""
    parts = header.lower().split(",", _MOST_RANGES)[:_MOST_RANGES]
    matches = [_RANGE.fullmatch(part) for part in parts]
    return {match[1]: float(match[2] or 1) for match in matches if match}


def _covers(wish: str, locale: str) -> bool:
    return locale == wish or locale.startswith(f"{wish}-")


def _refused(locale: str, weights: Mapping[str, float]) -> bool:
    """Whether the range that comes closest to this locale has the weight 0."""
    closest = max((wish for wish in weights if _covers(wish, locale)), key=len, default=None)
    return closest is not None and not weights[closest]


def _nearest(wish: str, offered: Sequence[str]) -> str | None:
    if wish == "*":
        return next(iter(offered), None)
    shortened = wish
    while shortened:
        if shortened in offered:
            return shortened
        shortened = shortened.rpartition("-")[0]
    return next((locale for locale in sorted(offered) if _covers(wish, locale)), None)
