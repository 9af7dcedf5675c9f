"""Slices: transitions of many signatures by a rule, a part of the key's range at a time.

A signer's key is as good as random, so cutting its range evenly cuts the signatures evenly. A slice is one short
transaction: whoever signs at the same time waits for no more than that, and whoever is interrupted goes on with the
next slice. Doing a slice again does nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.people.consents.service import HAS_CONSENT_SQL
from app.signatures.engine import transitions
from app.signatures.engine.lanes import Lane
from app.signatures.engine.transitions import ANONYMOUS, COUNTED, DELETE, EFFECTIVE_STATE, NO_MAIL_DUE, UPDATE

# Signatures in a slice, as many as are changed in a fraction of a second.
SLICE = 10_000
_MOST_SLICES = 1 << 16
# Behind the last key: longer than any.
_END = b"\xff" * 17

_LOCKED = """
    (SELECT o.signer, o.state, o.id FROM signatures o
     WHERE o.petition_id = $1 AND o.signer >= $2 AND o.signer < $3 AND {condition}
     ORDER BY o.signer FOR UPDATE) AS old
"""
# A field that is NULL matches everything; fields are joined by "and", the values of a field by "or".
RULE_SQL = """
    ({n[0]}::bytea[] IS NULL OR o.domain_digest = ANY ({n[0]}))
    AND ({n[1]}::bytea[] IS NULL OR o.address_digest = ANY ({n[1]}))
    AND ({n[2]}::text[] IS NULL OR o.source = ANY ({n[2]}))
    AND ({n[3]}::text[] IS NULL OR o.country = ANY ({n[3]}))
    AND ({n[4]}::uuid IS NULL OR o.partner_id = {n[4]})
    AND ({n[5]}::timestamptz IS NULL OR o.signed_at >= {n[5]})
    AND ({n[6]}::timestamptz IS NULL OR o.signed_at < {n[6]})
    AND ({n[7]}::bool IS NULL OR o.disposable IS NOT NULL)
    AND ({n[8]}::bool IS NULL OR o.held IS NOT NULL)
"""
INVALIDATES = "o.state IN ('pending', 'confirmed')"

_INVALIDATE = UPDATE.format(
    changes=f"state = 'invalidated', state_before = s.state, invalidation_id = $4, {NO_MAIL_DUE}",
    locked=_LOCKED.format(
        condition=f"{INVALIDATES} AND {RULE_SQL.format(n=[f'${number}' for number in range(5, 14)])}"
    ),
)
# Whoever could not confirm meanwhile is asked again.
_RESTORE = UPDATE.format(
    changes="""
        state = s.state_before, state_before = NULL, invalidation_id = NULL,
        mail_due_at = CASE WHEN s.state_before = 'pending' AND s.held IS NULL THEN now() END,
        mail_since = CASE WHEN s.state_before = 'pending' AND s.held IS NULL THEN now() END,
        due_mail = CASE WHEN s.state_before = 'pending' AND s.held IS NULL THEN 'confirm_signature' END
    """,
    locked=_LOCKED.format(condition="o.state = 'invalidated' AND o.invalidation_id = $4"),
)
# A held signature goes on as if nothing had happened: it counts, or is asked to confirm ($5).
_RELEASE = UPDATE.format(
    changes="""
        held = NULL,
        state = CASE WHEN $5 OR s.state = 'invalidated' THEN s.state ELSE 'confirmed' END,
        state_before = CASE WHEN $5 OR s.state_before IS NULL THEN s.state_before ELSE 'confirmed' END,
        mail_due_at = CASE WHEN $5 AND s.state <> 'invalidated' THEN now() END,
        mail_since = CASE WHEN $5 AND s.state <> 'invalidated' THEN now() END,
        due_mail = CASE WHEN $5 AND s.state <> 'invalidated' THEN 'confirm_signature' END
    """,
    locked=_LOCKED.format(condition=f"{EFFECTIVE_STATE} = 'pending' AND o.held IS NOT NULL AND o.signed_at < $4"),
)
_WITHOUT_CONSENT = f"NOT {HAS_CONSENT_SQL.format(signer='o.signer')}"
# Whose consents wait to be entered in the ledger waits too; those of invalidated signatures never are.
_ENTERED = "(o.consents_due IS NOT TRUE OR o.state = 'invalidated')"
# What is left of an anonymous signature is no longer anybody's: it is not met again.
_ANONYMIZE = UPDATE.format(
    changes=ANONYMOUS,
    locked=_LOCKED.format(condition=f"{COUNTED} AND o.sealed <> '' AND {_ENTERED} AND {_WITHOUT_CONSENT}"),
)
_FORGET = DELETE.format(locked=_LOCKED.format(condition=f"NOT {COUNTED} AND {_WITHOUT_CONSENT}"))


class Rule(NamedTuple):
    """Which signatures, as parameters of `RULE_SQL`, in its order; None matches all."""

    domain_digests: Sequence[bytes] | None = None
    address_digests: Sequence[bytes] | None = None
    sources: Sequence[str] | None = None
    countries: Sequence[str] | None = None
    partner_id: UUID | None = None
    signed_from: datetime | None = None
    signed_until: datetime | None = None
    disposable: bool | None = None
    held: bool | None = None


class Slice(NamedTuple):
    """A part of a petition's signatures: keys from `low` up to, and without, `high`."""

    petition_id: UUID
    low: bytes
    high: bytes


class Sliced(NamedTuple):
    """How many signatures of a slice were changed, and the petition's totals in the lane that did it."""

    changed: int
    totals: dict[UUID, int]


def slice_count(signature_count: int) -> int:
    """Into how many slices so many signatures are cut."""
    return min(max(1, -(-signature_count // SLICE)), _MOST_SLICES)


def cut(petition_id: UUID, number: int, count: int) -> Slice:
    """Slice `number` (from 0) of `count`."""
    low, high = ((edge << 64) // count for edge in (number, number + 1))
    return Slice(petition_id, low.to_bytes(9)[1:], high.to_bytes(9)[1:] if number + 1 < count else _END)


async def invalidate(lane: Lane, part: Slice, invalidation_id: UUID, rule: Rule) -> Sliced:
    """Invalidate what the rule matches, inside the caller's transaction on the lane's connection."""
    return await _change(lane, part, _INVALIDATE, invalidation_id, *rule)


async def restore(lane: Lane, part: Slice, invalidation_id: UUID) -> Sliced:
    """Restore what this invalidation has invalidated to what it would be without."""
    return await _change(lane, part, _RESTORE, invalidation_id)


async def release(lane: Lane, part: Slice, signed_before: datetime, *, confirmed_by_mail: bool) -> Sliced:
    """Release what was held before that moment."""
    return await _change(lane, part, _RELEASE, signed_before, confirmed_by_mail)


async def anonymize(lane: Lane, part: Slice) -> Sliced:
    """Destroy the personal data of those without other consent: counted ones become nobody's, the rest go."""
    kept = await _change(lane, part, _ANONYMIZE)
    gone = await _change(lane, part, _FORGET)
    return Sliced(kept.changed + gone.changed, kept.totals | gone.totals)


async def _change(lane: Lane, part: Slice, statement: str, *values: Any) -> Sliced:
    rows = await lane.connection.fetch(statement, *part, *values)
    return Sliced(len(rows), await transitions.move(lane, {part.petition_id}, rows))
