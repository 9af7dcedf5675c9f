"""Cleanup of endpoints that are gone: what waits for them becomes dead, and those that were removed are deleted.

A request that ends an endpoint only marks its row: a backlog of hundreds of thousands must hold up neither it nor the
transaction in which the attempts of all endpoints are recorded.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.waiting import wait_for_event

BATCH = 500

# The endpoint is locked before its messages, as it is when results are recorded or an endpoint is activated.
_FIND = text("""
    SELECT e.id, e.removed_at IS NOT NULL AS is_removed FROM webhook_endpoints e
    CROSS JOIN LATERAL (
        (SELECT e.id WHERE e.removed_at IS NOT NULL)
        UNION ALL
        (SELECT m.id FROM webhook_messages m WHERE m.endpoint_id = e.id AND m.state = 'due' AND m.ordered
        ORDER BY m.due_at, m.id LIMIT 1)
        UNION ALL
        (SELECT m.id FROM webhook_messages m WHERE m.endpoint_id = e.id AND m.state = 'due' AND NOT m.ordered
        ORDER BY m.due_at, m.id LIMIT 1)
        LIMIT 1
    ) AS d
    WHERE e.state = 'disabled' ORDER BY e.id LIMIT 1 FOR NO KEY UPDATE OF e SKIP LOCKED
""")
_BURY = text("""
    UPDATE webhook_messages SET state = 'dead' WHERE id IN (
        (SELECT id FROM webhook_messages WHERE endpoint_id = :id AND state = 'due' AND ordered
        ORDER BY due_at, id LIMIT :limit)
        UNION ALL
        (SELECT id FROM webhook_messages WHERE endpoint_id = :id AND state = 'due' AND NOT ordered
        ORDER BY due_at, id LIMIT :limit)
        LIMIT :limit
    ) RETURNING id
""")
_DELETE = text("""
    DELETE FROM webhook_messages WHERE id IN (
        SELECT id FROM webhook_messages WHERE endpoint_id = :id ORDER BY id LIMIT :limit
    ) RETURNING id
""")
_END = text("DELETE FROM webhook_endpoints WHERE id = :id RETURNING id")


async def clear(database: Database, ending: asyncio.Event, seconds: float) -> None:
    """Clear up until `ending` is set, looking every so many seconds."""
    while not ending.is_set():
        if not await _cleared(database):
            await wait_for_event(ending, seconds)


async def _cleared(database: Database) -> int:
    try:
        async with database.transaction() as session:
            return len(await clear_endpoints(session))
    except Exception as error:  # noqa: BLE001 - it is tried again after a while
        log.warning("clearing failed", **failure_of(error))
        return 0


async def clear_endpoints(session: AsyncSession) -> Sequence[UUID]:
    """Mark dead, or delete, up to `BATCH` messages of one endpoint that is gone; a removed one goes after its last."""
    found = (await session.execute(_FIND)).one_or_none()
    if found is None:
        return []
    values = {"id": found.id, "limit": BATCH}
    cleared = (await session.scalars(_DELETE if found.is_removed else _BURY, values)).all()
    if found.is_removed and len(cleared) < BATCH:
        return [*cleared, *await session.scalars(_END, {"id": found.id})]
    return cleared
