"""Rules: what staff say of signatures that are not genuine, as SQL, and sealed for storage.

A rule is stored sealed, because a domain that it names may be one person's own. Its fields are in `schemas.RuleBody`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError, padded
from app.kit.problems import Invalid
from app.organizations.models import Organization
from app.signatures.engine.attempts import ATTEMPTS
from app.signatures.engine.chunks import FIRST_RULE_PARAMETER, INVALIDATES, Rule
from app.signatures.moderation.schemas import RULE_FIELDS, DryRun, KeyCount, RuleBody
from app.signatures.reading.disclosure import SMALLEST_PUBLIC_KEY, about, draw, is_shared, parts_about


def rule_sql(first: int) -> str:
    """The condition of a rule on the row `o`; its parameters are those of `Rule.values`, numbered from `first` on."""
    return " AND ".join(field.sql(f"${number}") for number, field in enumerate(RULE_FIELDS.values(), first))


_HOUR = "%Y-%m-%dT%H:00:00Z"
_COUNTABLE = f"{INVALIDATES} AND ($2::timestamptz IS NULL OR o.signed_at < $2)"
# Counts what `chunks.invalidate` would change: the same conditions, in one scan of all rows. Counting by all three keys
# together first takes half the time.
_COUNT = f"""
    SELECT grouping(country, signed_hour, state) AS kind, country, signed_hour, state,
        sum(matching)::bigint AS matching, sum(countable)::bigint AS countable, sum(every)::bigint AS every
    FROM (
        SELECT o.country, date_bin('1 hour', o.signed_at, '2000-01-01T00:00Z') AS signed_hour, o.state,
            count(*) FILTER (WHERE {_COUNTABLE} AND {rule_sql(3)}) AS matching,
            count(*) FILTER (WHERE {_COUNTABLE}) AS countable, count(*) AS every
        FROM {ATTEMPTS.format(petition="$1")} AS o GROUP BY 1, 2, 3
    ) AS counted
    GROUP BY GROUPING SETS ((country), (signed_hour), (state), ())
"""
# PostgreSQL's `grouping()`: a bit for every column that is not grouped by.
_BY_COUNTRY, _BY_HOUR, _BY_STATE, _ALL = 0b011, 0b101, 0b110, 0b111
# How many signatures share each of these values; `{column}` holds digests.
_SHARED = f"""
    SELECT o.{{column}}, count(*), count(*) FILTER (WHERE o.proven AND o.state = 'confirmed')
    FROM {ATTEMPTS.format(petition="$1")} AS o WHERE {INVALIDATES} AND o.{{column}} = ANY ($2::bytea[]) GROUP BY 1
"""
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
    """How many signatures a rule matches, among how many that could be invalidated, and among how many at all.

    `is_narrow`: so few that it could be meant for one person.
    """

    dry_run: DryRun
    matching_count: int
    countable_count: int
    row_count: int
    is_narrow: bool


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
    return ring.seal(padded(stored.model_dump_json(exclude_none=True).encode()), identity(invalidation_id))


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


async def count(
    session: AsyncSession, ring: KeyRing, petition_id: UUID, stored: StoredRule, signed_before: datetime | None = None
) -> MatchCount:
    """What the rule matches among what was signed before that moment, or by now; in one statement."""
    connection = await session.connection()
    if not await _are_shared(connection, ring, petition_id, stored.body):
        return MatchCount(_FEW, 0, 0, 0, is_narrow=True)
    values = (petition_id, signed_before, *rule_of(ring, stored).values)
    rows: Sequence[Any] = (await connection.exec_driver_sql(_COUNT, values)).all()
    every = next(row for row in rows if row.kind == _ALL)
    matching = every.matching or 0
    is_narrow = matching < SMALLEST_PUBLIC_KEY
    told = _FEW if is_narrow else _dry_run(rows, matching, draw(ring.digest_key, petition_id, _hour_of(now())))
    return MatchCount(told, matching, every.countable or 0, every.every or 0, is_narrow)


def _hour_of(moment: datetime) -> str:
    return moment.strftime(_HOUR)


async def _are_shared(connection: AsyncConnection, ring: KeyRing, petition_id: UUID, body: RuleBody) -> bool:
    """Whether each domain and each client address that the rule names is shared by enough signatures.

    A name among many others would tell of one person too: by what the rule matches with and without it.
    """
    for name, field in RULE_FIELDS.items():
        named = set(field.value(ring, getattr(body, name)) or ()) if field.personal_column else set()
        if not named:
            continue
        statement = _SHARED.format(column=field.personal_column)
        rows: Sequence[Any] = (await connection.exec_driver_sql(statement, (petition_id, list(named)))).all()
        shared = {
            value
            for value, counted, proven in rows
            if is_shared(ring.digest_key, f"{petition_id} {value.hex()}", proven, counted)
        }
        if shared != named:
            return False
    return True


def _dry_run(rows: Sequence[Any], matching: int, border: int) -> DryRun:
    told = about(matching, border)
    of = {kind: [row for row in rows if row.kind == kind] for kind in (_BY_COUNTRY, _BY_HOUR, _BY_STATE)}
    countries = parts_about({row.country: row.matching for row in of[_BY_COUNTRY]}, told, border)
    hours = parts_about({_hour_of(row.signed_hour): row.matching for row in of[_BY_HOUR]}, told, border)
    return DryRun(
        signature_count=told,
        by_country=sorted(_key_counts(countries), key=lambda row: -row.signature_count),
        by_hour=_key_counts(hours),
        by_state=parts_about({row.state: row.matching for row in of[_BY_STATE]}, told, border),
    )


def _key_counts(counts: Mapping[str, int]) -> list[KeyCount]:
    return [KeyCount(key=key, signature_count=number) for key, number in sorted(counts.items())]
