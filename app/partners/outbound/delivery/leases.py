"""Leases: whoever delivers to an endpoint has leased it for a while, so two workers never deliver to the same."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now

# Messages of one endpoint that are taken at once: so many whose order is kept, and so many others.
MESSAGES = 200

# Failing endpoints are claimed by themselves, for they get less; the one served longest ago comes first. Each endpoint
# costs two looks into an index, however much has been delivered to it or waits behind another: an EXISTS with an OR in
# it read all that is due, or all of the table.
_LEASE = text("""
    UPDATE webhook_endpoints SET leased_until = :lease WHERE id = ANY (ARRAY(
        SELECT e.id FROM webhook_endpoints e
        CROSS JOIN LATERAL (
            (SELECT m.id FROM webhook_messages m
            WHERE m.endpoint_id = e.id AND m.state = 'due' AND NOT m.ordered AND m.due_at <= :now
            ORDER BY m.due_at, m.id LIMIT 1)
            UNION ALL
            (SELECT m.id FROM webhook_messages m
            WHERE m.endpoint_id = e.id AND m.state = 'due' AND m.ordered AND m.due_at <= :now
                AND (e.ordered_due_at IS NULL OR e.ordered_due_at <= :now)
            ORDER BY m.due_at, m.id LIMIT 1)
            LIMIT 1
        ) AS d
        WHERE e.state = 'active' AND (e.leased_until IS NULL OR e.leased_until <= :now)
            AND (e.failing_since IS NOT NULL) = :failing
        ORDER BY e.leased_until NULLS FIRST LIMIT :limit FOR NO KEY UPDATE OF e SKIP LOCKED
    )) RETURNING id, coalesce(ordered_due_at > :now, false) AS is_waiting
""")
# Messages whose order is kept never change `due_at`: what is due longest was made first.
_TAKE = text("""
    SELECT d.endpoint_id, d.id, d.ordered
    FROM unnest(CAST(:ids AS uuid[]), CAST(:waiting AS boolean[])) AS e (id, is_waiting)
    CROSS JOIN LATERAL (
        (SELECT m.endpoint_id, m.id, m.ordered, m.due_at FROM webhook_messages m
        WHERE m.endpoint_id = e.id AND m.state = 'due' AND m.ordered AND m.due_at <= :now AND NOT e.is_waiting
        ORDER BY m.due_at, m.id LIMIT :most)
        UNION ALL
        (SELECT m.endpoint_id, m.id, m.ordered, m.due_at FROM webhook_messages m
        WHERE m.endpoint_id = e.id AND m.state = 'due' AND NOT m.ordered AND m.due_at <= :now
        ORDER BY m.due_at, m.id LIMIT :most)
    ) AS d
    ORDER BY d.endpoint_id, d.due_at, d.id
""")
# Since when the message is due that waits longest, of those that nothing of the receiver's holds up.
OLDEST_DUE = text("""
    SELECT min(d.due_at) FROM webhook_endpoints e
    CROSS JOIN LATERAL (
        (SELECT m.due_at FROM webhook_messages m
        WHERE m.endpoint_id = e.id AND m.state = 'due' AND NOT m.ordered AND m.due_at <= now()
        ORDER BY m.due_at, m.id LIMIT 1)
        UNION ALL
        (SELECT greatest(m.due_at, e.ordered_due_at) FROM webhook_messages m
        WHERE m.endpoint_id = e.id AND m.state = 'due' AND m.ordered AND m.due_at <= now()
            AND (e.ordered_due_at IS NULL OR e.ordered_due_at <= now())
        ORDER BY m.due_at, m.id LIMIT 1)
    ) AS d WHERE e.state = 'active'
""")
_RELEASE = text("""
    UPDATE webhook_endpoints AS e SET leased_until = :until
    FROM unnest(CAST(:ids AS uuid[]), CAST(:leases AS timestamptz[])) AS n (id, lease)
    WHERE e.id = n.id AND e.leased_until = n.lease
""")


class DueMessage(NamedTuple):
    """A message to be sent."""

    endpoint_id: UUID
    id: UUID
    is_ordered: bool


class LeasedEndpoint(NamedTuple):
    """An endpoint leased until `lease`, and what is due to it, in order."""

    endpoint_id: UUID
    lease: datetime
    is_failing: bool
    messages: Sequence[DueMessage]


async def claim(session: AsyncSession, lease: timedelta, *, limit: int, failing: bool) -> list[LeasedEndpoint]:
    """Lease up to so many endpoints, of those that are failing or of the others."""
    moment = now()
    until = moment + lease
    values = {"now": moment, "lease": until, "limit": limit, "failing": failing}
    waiting = {row.id: row.is_waiting for row in await session.execute(_LEASE, values)}
    if not waiting:
        return []
    taken = {"ids": list(waiting), "waiting": list(waiting.values()), "now": moment, "most": MESSAGES}
    due: defaultdict[UUID, list[DueMessage]] = defaultdict(list)
    for row in await session.execute(_TAKE, taken):
        due[row.endpoint_id].append(DueMessage(*row))
    return [LeasedEndpoint(endpoint_id, until, failing, due[endpoint_id]) for endpoint_id in waiting]


async def release(session: AsyncSession, leased: Collection[LeasedEndpoint], rest: timedelta = timedelta(0)) -> None:
    """End these leases, unless another worker has them by now; the endpoints can be leased again after `rest`."""
    if leased:
        values = {"ids": [one.endpoint_id for one in leased], "leases": [one.lease for one in leased]}
        await session.execute(_RELEASE, values | {"until": now() + rest})
