"""Invalidations: staff draft one with a rule, look at it, apply it, and undo it as a whole.

Here only the decision is stored; the worker carries it out chunk by chunk (`apply.py`).
"""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.kit.logs import log
from app.kit.problems import Conflict, NotFound
from app.kit.text.fields import as_id
from app.signatures.engine import chunks
from app.signatures.models import Invalidation
from app.signatures.moderation import rules
from app.signatures.moderation.rules import MatchCount, StoredRule
from app.signatures.moderation.schemas import DryRun, InvalidationBody


class InvalidationNotFound(NotFound):
    """There is no such invalidation of this petition."""

    slug = "invalidation-not-found"


class InvalidationOutOfTurn(Conflict):
    """The invalidation's state does not allow this."""

    slug = "invalidation-out-of-turn"


class RuleMatchesAll(Conflict):
    """The rule matches every signature of the petition and does not say `everything`."""

    slug = "rule-matches-all-signatures"


class RuleMatchesTooFew(Conflict):
    """The rule matches fewer than five signatures, or names a domain or an address that too few share."""

    slug = "rule-matches-too-few"


class RuleUnreadable(Conflict):
    """No key of the service opens the invalidation's rule."""

    slug = "rule-unreadable"


class OpenedInvalidation(NamedTuple):
    """An invalidation, its rule (None if no key opens it), and what it would invalidate (None if not counted)."""

    invalidation: Invalidation
    rule: StoredRule | None
    dry_run: DryRun | None = None


async def draft(session: AsyncSession, ring: KeyRing, petition_id: UUID, body: InvalidationBody) -> OpenedInvalidation:
    """A draft and its dry run; RuleMatchesEverything, UnknownPartner, RuleMatchesTooFew."""
    rule = await rules.resolve(session, body.rule)
    counted = await rules.count(session, ring, petition_id, rule)
    _expect_many(counted)
    id_ = uuid7()
    sealed = rules.seal(ring, id_, rule)
    invalidation = Invalidation(id=id_, petition_id=petition_id, reason=body.reason, sealed=sealed)
    session.add(invalidation)
    await session.flush()
    return OpenedInvalidation(invalidation, rule, counted.dry_run)


def _expect_many(counted: MatchCount) -> None:
    """Nothing is said of which it was, and nothing of how many."""
    if counted.is_narrow:
        raise RuleMatchesTooFew


def of(petition_id: UUID) -> Select[Invalidation]:
    """The invalidations of a petition."""
    return select(Invalidation).where(Invalidation.petition_id == petition_id)


def opened(ring: KeyRing, invalidation: Invalidation) -> OpenedInvalidation:
    """An invalidation with its rule, if it can be opened."""
    rule = rules.unseal(ring, invalidation.id, invalidation.sealed)
    if rule is None:
        log.error("the rule of an invalidation cannot be opened", invalidation=str(invalidation.id))
    return OpenedInvalidation(invalidation, rule)


async def look(session: AsyncSession, ring: KeyRing, petition_id: UUID, ref: str) -> OpenedInvalidation:
    """An invalidation, without a dry run; InvalidationNotFound."""
    return opened(ring, await _find(session, petition_id, ref, locked=False))


async def with_dry_run(session: AsyncSession, ring: KeyRing, draft: OpenedInvalidation) -> OpenedInvalidation:
    """A draft whose rule can be opened, with a fresh dry run."""
    assert draft.rule is not None
    counted = await rules.count(session, ring, draft.invalidation.petition_id, draft.rule)
    return draft._replace(dry_run=counted.dry_run)


async def _find(session: AsyncSession, petition_id: UUID, ref: str, *, locked: bool) -> Invalidation:
    query = of(petition_id).where(Invalidation.id == as_id(ref))
    invalidation = await session.scalar(query.with_for_update() if locked else query)
    if invalidation is None:
        raise InvalidationNotFound
    return invalidation


async def apply(session: AsyncSession, ring: KeyRing, petition_id: UUID, ref: str) -> OpenedInvalidation:
    """Let the worker invalidate what the rule matches and was signed until now; repeating it changes nothing.

    InvalidationNotFound, InvalidationOutOfTurn, RuleUnreadable, RuleMatchesTooFew, RuleMatchesAll.
    """
    found = opened(ring, await _find(session, petition_id, ref, locked=True))
    invalidation, rule = found.invalidation, found.rule
    if invalidation.state in {"applying", "applied"}:
        return found
    _expect(invalidation, {"draft"}, "applied")
    if rule is None:
        raise RuleUnreadable("Draft it again, or have the key that sealed it brought back.")
    moment = now()
    counted = await rules.count(session, ring, petition_id, rule, moment)
    _expect_many(counted)
    if counted.matching_count == counted.countable_count > 0 and not rule.body.everything:
        raise RuleMatchesAll("If that is meant, draft the rule again and say `everything`.")
    invalidation.signed_before, invalidation.state = moment, "applying"
    invalidation.slice, invalidation.slice_count = 0, chunks.chunk_count(counted.row_count)
    await session.flush()
    return found._replace(dry_run=counted.dry_run)


async def undo(session: AsyncSession, ring: KeyRing, petition_id: UUID, ref: str) -> OpenedInvalidation:
    """Let the worker restore all that was invalidated, however far it came; repeating it changes nothing.

    InvalidationNotFound, InvalidationOutOfTurn.
    """
    found = opened(ring, await _find(session, petition_id, ref, locked=True))
    invalidation = found.invalidation
    if invalidation.state not in {"undoing", "undone"}:
        _expect(invalidation, {"applying", "applied"}, "undone")
        invalidation.state, invalidation.slice = "undoing", 0
        await session.flush()
    return found


def _expect(invalidation: Invalidation, states: set[str], wanted: str) -> None:
    if invalidation.state not in states:
        allowed = " or ".join(f"`{state}`" for state in sorted(states))
        raise InvalidationOutOfTurn(f"Its state is `{invalidation.state}`; only {allowed} can be {wanted}.")
