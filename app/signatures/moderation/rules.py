"""Rules: from what staff say of signatures that are not genuine to what a statement asks of each row.

A rule is kept sealed, for a domain it names may be one person's own.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.problems import Invalid
from app.organizations.models import Organization
from app.signatures.engine.chunks import INVALIDATES, RULE_SQL, Rule
from app.signatures.moderation.schemas import DryRun, KeyCount, RuleBody
from app.signatures.reading.breakdown import SMALLEST_PUBLIC_KEY
from app.signatures.signing import email_domains

_HOUR = "%Y-%m-%dT%H:00:00Z"
_COUNTABLE = f"{INVALIDATES} AND ($2::timestamptz IS NULL OR o.signed_at < $2)"
# What is counted is what `slices.invalidate` would change: the same conditions, in one look at all rows. Counting by
# all three together first takes half the time.
_COUNT = f"""
    SELECT grouping(country, signed_hour, state), country, signed_hour, state,
        sum(matching)::bigint, sum(countable)::bigint, sum(every)::bigint
    FROM (
        SELECT o.country, date_bin('1 hour', o.signed_at, '2000-01-01T00:00Z') AS signed_hour, o.state,
            count(*) FILTER (WHERE {_COUNTABLE} AND {RULE_SQL.format(n=[f"${number}" for number in range(3, 12)])})
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


class Decided(BaseModel):
    """A rule as staff gave it, and whom its partner's slug named then."""

    body: RuleBody
    partner_id: UUID | None = None


class Counted(NamedTuple):
    """What a rule matches, among how many signatures that could be invalidated, and among how many at all."""

    dry_run: DryRun
    matching_count: int
    countable_count: int
    row_count: int


async def decide(session: AsyncSession, body: RuleBody) -> Decided:
    """The rule, checked; RuleMatchesEverything, UnknownPartner."""
    if not body.narrows and not body.everything:
        raise RuleMatchesEverything("Name what the signatures have in common, or say `everything`.")
    if body.partner is None:
        return Decided(body=body)
    query = select(Organization.id).where(Organization.slug == body.partner, Organization.kind == "partner")
    partner_id = await session.scalar(query)
    if partner_id is None:
        raise UnknownPartner
    return Decided(body=body, partner_id=partner_id)


def seal(ring: KeyRing, invalidation_id: UUID, decided: Decided) -> bytes:
    """The rule, sealed for its invalidation's row."""
    return ring.seal(decided.model_dump_json(exclude_none=True).encode(), identity(invalidation_id))


def unseal(ring: KeyRing, invalidation_id: UUID, sealed: bytes) -> Decided | None:
    """The rule of a row; None when it was sealed for another row or key ring, or is none that we understand."""
    try:
        return Decided.model_validate_json(ring.open(sealed, identity(invalidation_id)))
    except (SealBrokenError, ValidationError):
        return None


def identity(invalidation_id: UUID) -> bytes:
    """What a sealed rule belongs to."""
    return b"invalidations.sealed" + invalidation_id.bytes


def rule_of(ring: KeyRing, decided: Decided, signed_before: datetime | None = None) -> Rule:
    """The rule as parameters of a statement; of signatures given before that moment, if there is one."""
    body = decided.body
    ends = [moment for moment in (body.signed_until, signed_before) if moment is not None]
    return Rule(
        domain_digests=_each(partial(email_domains.digest, ring), body.mail_domains),
        address_digests=_each(bytes.fromhex, body.address_digests),
        sources=body.sources,
        countries=body.countries,
        partner_id=decided.partner_id,
        signed_from=body.signed_from,
        signed_until=min(ends, default=None),
        disposable=body.disposable,
        held=body.held,
    )


def _each(digest: Callable[[str], bytes], names: Sequence[str] | None) -> list[bytes] | None:
    return None if names is None else [digest(name) for name in names]


async def count(session: AsyncSession, petition_id: UUID, rule: Rule, signed_before: datetime | None = None) -> Counted:
    """What the rule matches of what was signed before that moment, or by now.

    In one statement, so that its breakdowns are of one mind. A rule that names domains or client addresses could ask
    for one person's signature: so the dry run of such a one tells no count below five.
    """
    connection = await session.connection()
    rows: Sequence[Any] = (await connection.exec_driver_sql(_COUNT, (petition_id, signed_before, *rule))).all()
    of = {kind: [row[1:5] for row in rows if row[0] == kind and row[4]] for kind in (_BY_COUNTRY, _BY_HOUR, _BY_STATE)}
    every = next(row for row in rows if row[0] == _ALL)
    matching = every[4] or 0
    if 0 < matching < SMALLEST_PUBLIC_KEY and (rule.domain_digests is not None or rule.address_digests is not None):
        return Counted(_FEW, matching, every[5], every[6])
    dry_run = DryRun(
        signature_count=matching,
        by_country=_largest_first([(row[0], row[3]) for row in of[_BY_COUNTRY]]),
        by_hour=_ordered([(row[1].strftime(_HOUR), row[3]) for row in of[_BY_HOUR]]),
        by_state={row[2]: row[3] for row in of[_BY_STATE]},
    )
    return Counted(dry_run, matching, every[5] or 0, every[6] or 0)


def _ordered(counts: Sequence[tuple[str, int]]) -> list[KeyCount]:
    return [KeyCount(key=key, signature_count=number) for key, number in sorted(counts)]


def _largest_first(counts: Sequence[tuple[str, int]]) -> list[KeyCount]:
    return sorted(_ordered(counts), key=lambda row: -row.signature_count)
