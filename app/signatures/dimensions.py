"""The dimensions of the tallies: one table that says what signatures are counted by.

Everything about a dimension is derived from its row here: the keys that are written (`engine/tallies.py`), the recount
(`reading/recount.py`), what the public may ask for, and the values of `by` in the API (`schemas.py`). A test draws
random signatures and shows that `key` and `sql` agree.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID


class TallyKeys(NamedTuple):
    """What a signature is tallied by."""

    country: str
    region: str
    source: str
    group_id: UUID | None
    event_id: UUID | None
    signed_at: datetime


class KeyParts(NamedTuple):
    """The same, as a dimension makes its key of it: the time as the texts of its hour and day in UTC."""

    country: str
    region: str
    source: str
    group_id: UUID | None
    event_id: UUID | None
    hour: str
    day: str


class Dimension(NamedTuple):
    """One breakdown of a petition's signatures; each signature has one key in it, "" for none.

    `key` makes the key in Python, `sql` the same key of a row of `signatures`. With `is_time` a breakdown is shown in
    the order of its keys, otherwise the largest first.
    """

    name: str
    key: Callable[[KeyParts], str]
    sql: str
    is_public: bool = False
    is_time: bool = False


DIMENSIONS = (
    # One key: the number of signatures.
    Dimension("total", lambda _: "", "''"),
    Dimension("country", attrgetter("country"), "country", is_public=True),
    Dimension(
        "region",
        lambda of: f"{of.country}/{of.region}" if of.region else "",
        "CASE WHEN region = '' THEN '' ELSE country || '/' || region END",
    ),
    Dimension(
        "hour",
        attrgetter("hour"),
        """to_char(signed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"')""",
        is_public=True,
        is_time=True,
    ),
    Dimension("source", attrgetter("source"), "source"),
    Dimension("group", lambda of: str(of.group_id or ""), "coalesce(group_id::text, '')"),
    Dimension("event", lambda of: str(of.event_id or ""), "coalesce(event_id::text, '')"),
    Dimension(
        "country_day",
        lambda of: f"{of.country} {of.day}",
        "country || ' ' || to_char(signed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
        is_time=True,
    ),
)
BY_NAME = {dimension.name: dimension for dimension in DIMENSIONS}
NAMES = tuple(BY_NAME)

# What signatures of one hour that are alike have in common: the fields of `TallyKeys`, the time in hours since 1970.
Alike = tuple[str, str, str, UUID | None, UUID | None, int]


def alike(keys: TallyKeys) -> Alike:
    """The same for all signatures that count under the same keys."""
    country, region, source, group_id, event_id, signed_at = keys
    return country, region, source, group_id, event_id, int(signed_at.timestamp()) // 3600


# Most signatures of an hour are alike: their keys are worked out once, for all batches.
@lru_cache(maxsize=4096)
def keys_of(like: Alike) -> tuple[tuple[str, str], ...]:
    """The (dimension, key) pairs under which such a signature counts, one for each dimension."""
    country, region, source, group_id, event_id, hours = like
    of = KeyParts(country, region, source, group_id, event_id, *_hour_and_day(hours))
    return tuple([(dimension.name, dimension.key(of)) for dimension in DIMENSIONS])


@lru_cache(maxsize=4096)
def _hour_and_day(hours: int) -> tuple[str, str]:
    moment = datetime.fromtimestamp(hours * 3600, UTC)
    return moment.strftime("%Y-%m-%dT%H:00:00Z"), moment.strftime("%Y-%m-%d")
