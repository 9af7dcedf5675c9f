"""Claiming endpoints: whoever delivers to one holds it for a while, so two workers never deliver to the same."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now

# Messages of one endpoint, of those whose order counts and of the others, that are taken at once.
MESSAGES = 200

# Those that fail come by themselves, for they get less; whoever was served longest ago comes first. Each endpoint costs
# two looks into an index, however much has been delivered to it or waits behind another: an EXISTS with an OR in it
# read all that is due, or all of the table.
_HOLD = text("""
    UPDATE webhook_endpoints SET leased_until = :lease WHERE id IN (
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
    ) RETURNING id, coalesce(ordered_due_at > :now, false) AS is_waiting
""")
# Messages whose order counts keep the time they were made due at: what is due longest was made first.
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
_RELEASE = text("""
    UPDATE webhook_endpoints AS e SET leased_until = :until
    FROM unnest(CAST(:ids AS uuid[]), CAST(:leases AS timestamptz[])) AS n (id, lease)
    WHERE e.id = n.id AND e.leased_until = n.lease
""")


class Due(NamedTuple):
    """A message to be sent."""

    endpoint_id: UUID
    id: UUID
    is_ordered: bool


class Held(NamedTuple):
    """An endpoint held until `lease`, and what is due to it, in order."""

    endpoint_id: UUID
    lease: datetime
    is_failing: bool
    messages: Sequence[Due]


async def claim(session: AsyncSession, lease: timedelta, *, limit: int, failing: bool) -> list[Held]:
    """Hold up to so many endpoints, of those that are failing or of the others."""
    moment = now()
    until = moment + lease
    values = {"now": moment, "lease": until, "limit": limit, "failing": failing}
    waiting = {row.id: row.is_waiting for row in await session.execute(_HOLD, values)}
    if not waiting:
        return []
    taken = {"ids": list(waiting), "waiting": list(waiting.values()), "now": moment, "most": MESSAGES}
    due: defaultdict[UUID, list[Due]] = defaultdict(list)
    for row in await session.execute(_TAKE, taken):
        due[row.endpoint_id].append(Due(*row))
    return [Held(endpoint_id, until, failing, due[endpoint_id]) for endpoint_id in waiting]


async def release(session: AsyncSession, held: Collection[Held], rest: timedelta = timedelta(0)) -> None:
    """Let go of these, unless somebody else holds them by now; they can be held again when so much time has passed."""
    if held:
        values = {"ids": [one.endpoint_id for one in held], "leases": [one.lease for one in held]}
        await session.execute(_RELEASE, values | {"until": now() + rest})
