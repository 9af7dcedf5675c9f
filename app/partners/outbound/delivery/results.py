"""Delivery results: attempts are recorded, and what becomes of their messages and endpoints.

Endpoints are locked before messages, by ids, as whoever changes an endpoint does.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import metrics
from app.kit.clock import now
from app.kit.database.session import Database
from app.kit.logs import log
from app.partners.models import WebhookEndpoint
from app.partners.outbound.backoff import LIFETIME

# An endpoint is paused when nothing was delivered to it for so long, in so many attempts.
PATIENCE = timedelta(hours=24)
FAILURES = 8

# An attempt is recorded once, however often this is repeated.
_ATTEMPT = text("""
    INSERT INTO delivery_attempts (id, message_id, attempted_at, duration_ms, status_code, error, answer)
    SELECT n.id, n.message_id, n.attempted_at, n.duration_ms, n.status_code, n.error, n.answer
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:messages AS uuid[]), CAST(:times AS timestamptz[]), CAST(:durations AS integer[]),
        CAST(:statuses AS integer[]), CAST(:errors AS text[]), CAST(:answers AS bytea[])
    ) AS n (id, message_id, attempted_at, duration_ms, status_code, error, answer)
    JOIN webhook_messages m ON m.id = n.message_id
    ON CONFLICT (id) DO NOTHING RETURNING message_id
""")
# A message whose order counts keeps its place: the endpoint says when it is tried again.
_MOVE = text("""
    UPDATE webhook_messages AS m SET
        attempt_count = m.attempt_count + 1,
        state = CASE
            WHEN n.outcome = 'delivered' THEN 'delivered'
            WHEN m.state <> 'due' THEN m.state
            WHEN n.outcome = 'gone' OR n.due_at > greatest(m.retried_until, n.retried_until) THEN 'dead'
            ELSE 'due' END,
        due_at = CASE WHEN n.outcome = 'failed' AND NOT n.is_ordered THEN n.due_at ELSE m.due_at END,
        delivered_at = CASE WHEN n.outcome = 'delivered' THEN n.attempted_at ELSE m.delivered_at END
    FROM unnest(
        CAST(:messages AS uuid[]), CAST(:outcomes AS text[]), CAST(:due AS timestamptz[]), CAST(:ordered AS boolean[]),
        CAST(:times AS timestamptz[]), CAST(:lives AS timestamptz[])
    ) AS n (id, outcome, due_at, is_ordered, attempted_at, retried_until)
    WHERE m.id = n.id
    RETURNING m.id, m.state
""")
_VOID = text("UPDATE webhook_messages SET state = 'void' WHERE id = ANY(:ids) AND state = 'due'")


class Outcome(StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    # It is tried again later, or `DEAD`, once it is recorded that it was the last.
    FAILED = "failed"
    DEAD = "dead"
    # The receiver wants nothing any more.
    GONE = "gone"
    # There was nothing left to tell, so nothing was sent.
    VOID = "void"


class Attempt(NamedTuple):
    """One delivery attempt and its outcome. `due_at`: when to try again.

    `number`: which attempt at its message it is, from 1. `error`: why it failed, in one word, which is the reason kept.
    """

    id: UUID
    endpoint_id: UUID
    message_id: UUID
    is_ordered: bool
    attempted_at: datetime
    outcome: Outcome
    due_at: datetime
    number: int
    duration_ms: int = 0
    status_code: int | None = None
    error: str | None = None
    answer: bytes = b""


class EndpointState(NamedTuple):
    """How an endpoint stands before these attempts are recorded."""

    id: UUID
    state: str
    failure_count: int
    failing_since: datetime | None
    ordered_due_at: datetime | None
    activated_at: datetime | None
    updated_at: datetime

    @property
    def retried_until(self) -> datetime | None:
        """Until when what waited as it was activated last is tried again."""
        return self.activated_at and self.activated_at + LIFETIME


class ResultRecorder:
    """Records the attempts of one worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, attempts: Sequence[Attempt]) -> Sequence[None]:
        """Record these in one transaction; harmless to repeat."""
        made = [one for one in attempts if one.outcome is not Outcome.VOID]
        void = sorted(one.message_id for one in attempts if one.outcome is Outcome.VOID)
        async with self._database.transaction() as session:
            endpoints = await _locked(session, {one.endpoint_id for one in made})
            states = await _move(session, made, endpoints)
            await _follow(session, endpoints, made, states)
            if void:
                await session.execute(_VOID, {"ids": void})
        for one in attempts:
            _trace(one, states)
        return [None] * len(attempts)


def _trace(attempt: Attempt, states: Mapping[UUID, str]) -> None:
    """Log and count one attempt, once it is recorded. No personal data: neither an address nor an answer."""
    is_dead = attempt.outcome is Outcome.FAILED and states.get(attempt.message_id) == "dead"
    end = Outcome.DEAD if is_dead else attempt.outcome
    metrics.deliveries.labels(end.value).inc()
    facts = {
        "source": "webhooks",
        "id": str(attempt.message_id),
        "endpoint_id": str(attempt.endpoint_id),
        "attempt": attempt.number,
        "seconds": attempt.duration_ms / 1000,
        "end": end.value,
    }
    if attempt.error is None:
        log.info("webhook delivered" if end is Outcome.DELIVERED else "webhook not needed", **facts)
    else:
        reason = attempt.error if attempt.status_code is None else f"{attempt.error}-{attempt.status_code}"
        log.warning("webhook failed", **facts, reason=reason)


async def _locked(session: AsyncSession, ids: set[UUID]) -> dict[UUID, EndpointState]:
    if not ids:
        return {}
    columns = [getattr(WebhookEndpoint, name) for name in EndpointState._fields]
    query = select(*columns).where(WebhookEndpoint.id.in_(ids)).order_by(WebhookEndpoint.id)
    return {row.id: EndpointState(*row) for row in await session.execute(query.with_for_update(key_share=True))}


async def _move(
    session: AsyncSession, attempts: Sequence[Attempt], endpoints: Mapping[UUID, EndpointState]
) -> dict[UUID, str]:
    """Write the attempts, and move their messages; the states of those that were moved."""
    if not attempts:
        return {}
    columns = {
        "ids": [one.id for one in attempts],
        "messages": [one.message_id for one in attempts],
        "times": [one.attempted_at for one in attempts],
        "durations": [one.duration_ms for one in attempts],
        "statuses": [one.status_code for one in attempts],
        "errors": [one.error for one in attempts],
        "answers": [one.answer for one in attempts],
    }
    written = set(await session.scalars(_ATTEMPT, columns))
    moving = sorted((one for one in attempts if one.message_id in written), key=lambda one: one.message_id)
    ends = {
        "messages": [one.message_id for one in moving],
        "outcomes": [one.outcome.value for one in moving],
        "due": [one.due_at for one in moving],
        "ordered": [one.is_ordered for one in moving],
        "times": [one.attempted_at for one in moving],
        "lives": [endpoints[one.endpoint_id].retried_until for one in moving],
    }
    return {row.id: row.state for row in await session.execute(_MOVE, ends)}


async def _follow(
    session: AsyncSession,
    endpoints: Mapping[UUID, EndpointState],
    attempts: Sequence[Attempt],
    states: Mapping[UUID, str],
) -> None:
    """What becomes of the endpoints."""
    of_endpoint: defaultdict[UUID, list[Attempt]] = defaultdict(list)
    for one in attempts:
        if one.message_id in states:
            of_endpoint[one.endpoint_id].append(one)
    changes = {id_: _change(endpoints[id_], made, states) for id_, made in of_endpoint.items() if id_ in endpoints}
    for id_, changed in changes.items():
        if changed:
            await session.execute(update(WebhookEndpoint).where(WebhookEndpoint.id == id_).values(**changed))


def _change(endpoint: EndpointState, attempts: Sequence[Attempt], states: Mapping[UUID, str]) -> dict[str, Any]:
    """The columns of this endpoint that are different after these attempts."""
    after: dict[str, Any] = {name: getattr(endpoint, name) for name in ("failure_count", "failing_since")}
    after |= {"ordered_due_at": endpoint.ordered_due_at}
    for one in sorted(attempts, key=lambda one: one.attempted_at):
        if one.outcome is Outcome.DELIVERED:
            after |= {"failure_count": 0, "failing_since": None}
        else:
            after["failure_count"] += 1
            after["failing_since"] = after["failing_since"] or one.attempted_at
        if one.is_ordered:
            waits = one.outcome is Outcome.FAILED and states[one.message_id] == "due"
            after["ordered_due_at"] = one.due_at if waits else None
    if endpoint.state == "active":
        after |= _ended(after, attempts)
    changed = {name: value for name, value in after.items() if value != getattr(endpoint, name, None)}
    return changed | {"updated_at": endpoint.updated_at} if changed else {}


def _ended(after: Mapping[str, Any], attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Whether the endpoint has said that it is gone, or has failed for too long."""
    if any(one.outcome is Outcome.GONE for one in attempts):
        return {"state": "disabled", "state_reason": "gone"}
    since = after["failing_since"]
    if since is None or after["failure_count"] < FAILURES or attempts[-1].attempted_at - since < PATIENCE:
        return {}
    return {"state": "paused", "state_reason": "failing", "mail_due_at": now(), "mail_count": 0}
