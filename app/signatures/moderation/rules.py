"""Rules: what staff say of signatures that are not genuine, as SQL, and sealed for storage.

A rule is stored sealed, because a domain that it names may be one person's own. Its fields are in `schemas.RuleBody`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.problems import Invalid
from app.organizations.models import Organization
from app.signatures.engine.chunks import FIRST_RULE_PARAMETER, INVALIDATES, Rule
from app.signatures.moderation.schemas import RULE_FIELDS, DryRun, KeyCount, RuleBody
from app.signatures.reading.breakdown import SMALLEST_PUBLIC_KEY


def rule_sql(first: int) -> str:
    """The condition of a rule on the row `o`; its parameters are those of `Rule.values`, numbered from `first` on."""
    return " AND ".join(field.sql(f"${number}") for number, field in enumerate(RULE_FIELDS.values(), first))


_HOUR = "%Y-%m-%dT%H:00:00Z"
_COUNTABLE = f"{INVALIDATES} AND ($2::timestamptz IS NULL OR o.signed_at < $2)"
# Counts what `chunks.invalidate` would change: the same conditions, in one scan of all rows. Counting by all three keys
# together first takes half the time.
_COUNT = f"""
    SELECT grouping(country, signed_hour, state), country, signed_hour, state,
        sum(matching)::bigint, sum(countable)::bigint, sum(every)::bigint
    FROM (
        SELECT o.country, date_bin('1 hour', o.signed_at, '2000-01-01T00:00Z') AS signed_hour, o.state,
            count(*) FILTER (WHERE {_COUNTABLE} AND {rule_sql(3)})
                AS matching,
            count(*) FILTER (WHERE {_COUNTABLE}) AS countable, count(*) AS every
        FROM signatures o WHERE o.petition_id = $1 GROUP BY 1, 2, 3
    ) AS counted
    GROUP BY GROUPING SETS ((country), (signed_hour), (state), ())
"""
# PostgreSQL's `grouping()`: a bit for every column that is not grouped by.
_BY_COUNTRY, _BY_HOUR, _BY_STATE, _ALL = 0b011, 0b101, 0b110, 0b111
_FEW = DryRun(signature_count=None, by_country=[], by_hour=[], by_state={})


class RuleMatchesEverything(Invalid):
    """A rule that asks nothing of a signature must say `everything`."""

    slug = "rule-matches-everything"


class UnknownPartner(Invalid):
    """The rule names a partner that does not exist."""

    slug = "unknown-partner"


class StoredRule(BaseModel):
    """A rule as staff gave it, and the partner that its slug named then."""

    body: RuleBody
    partner_id: UUID | None = None


class MatchCount(NamedTuple):
    """How many signatures a rule matches, among how many that could be invalidated, and among how many at all."""

    dry_run: DryRun
    matching_count: int
    countable_count: int
    row_count: int


async def resolve(session: AsyncSession, body: RuleBody) -> StoredRule:
    """The rule, checked, its partner looked up; RuleMatchesEverything, UnknownPartner."""
    if not body.narrows and not body.everything:
        raise RuleMatchesEverything("Name what the signatures have in common, or say `everything`.")
    if body.partner is None:
        return StoredRule(body=body)
    query = select(Organization.id).where(Organization.slug == body.partner, Organization.kind == "partner")
    partner_id = await session.scalar(query)
    if partner_id is None:
        raise UnknownPartner
    return StoredRule(body=body, partner_id=partner_id)


def seal(ring: KeyRing, invalidation_id: UUID, stored: StoredRule) -> bytes:
    """The rule, sealed for its invalidation's row."""
    return ring.seal(stored.model_dump_json(exclude_none=True).encode(), identity(invalidation_id))


def unseal(ring: KeyRing, invalidation_id: UUID, sealed: bytes) -> StoredRule | None:
    """The rule of a row; None when it was sealed for another row or key ring, or is none that we understand."""
    try:
        return StoredRule.model_validate_json(ring.open(sealed, identity(invalidation_id)))
    except (SealBrokenError, ValidationError):
        return None


def identity(invalidation_id: UUID) -> bytes:
    """What a sealed rule belongs to."""
    return b"invalidations.sealed" + invalidation_id.bytes


def rule_of(ring: KeyRing, stored: StoredRule, signed_before: datetime | None = None) -> Rule:
    """The rule as SQL; with `signed_before`, of signatures given before that moment."""
    ends = [moment for moment in (stored.body.signed_until, signed_before) if moment is not None]
    values = {name: field.value(ring, getattr(stored.body, name)) for name, field in RULE_FIELDS.items()}
    values |= {"partner": stored.partner_id, "signed_until": min(ends, default=None)}
    return Rule(rule_sql(FIRST_RULE_PARAMETER), tuple(values.values()))


def _may_be_personal(body: RuleBody) -> bool:
    return any(getattr(body, name) is not None for name, field in RULE_FIELDS.items() if field.is_personal)


async def count(
    session: AsyncSession, ring: KeyRing, petition_id: UUID, stored: StoredRule, signed_before: datetime | None = None
) -> MatchCount:
    """What the rule matches among what was signed before that moment, or by now.

    In one statement, so that its breakdowns agree. With a rule that names domains or client addresses somebody could
    look for one person's signature: so its dry run tells no count below five.
    """
    connection = await session.connection()
    values = rule_of(ring, stored).values
    rows: Sequence[Any] = (await connection.exec_driver_sql(_COUNT, (petition_id, signed_before, *values))).all()
    of = {kind: [row[1:5] for row in rows if row[0] == kind and row[4]] for kind in (_BY_COUNTRY, _BY_HOUR, _BY_STATE)}
    every = next(row for row in rows if row[0] == _ALL)
    matching = every[4] or 0
    if 0 < matching < SMALLEST_PUBLIC_KEY and _may_be_personal(stored.body):
        return MatchCount(_FEW, matching, every[5], every[6])
    dry_run = DryRun(
        signature_count=matching,
        by_country=_largest_first([(row[0], row[3]) for row in of[_BY_COUNTRY]]),
        by_hour=_ordered([(row[1].strftime(_HOUR), row[3]) for row in of[_BY_HOUR]]),
        by_state={row[2]: row[3] for row in of[_BY_STATE]},
    )
    return MatchCount(dry_run, matching, every[5] or 0, every[6] or 0)


def _ordered(counts: Sequence[tuple[str, int]]) -> list[KeyCount]:
    return [KeyCount(key=key, signature_count=number) for key, number in sorted(counts)]


def _largest_first(counts: Sequence[tuple[str, int]]) -> list[KeyCount]:
    return sorted(_ordered(counts), key=lambda row: -row.signature_count)
