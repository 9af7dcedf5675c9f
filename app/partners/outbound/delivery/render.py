"""Rendering what is sent, at the moment it is sent: many at once, in transactions that are over before any is sent."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.web.errors import is_unreachable
from app.kit.webhooks.message_types import MessageTypes
from app.partners.outbound.delivery.leases import DueMessage
from app.partners.outbound.endpoints.sealed_config import EndpointConfig, open_config
from app.partners.outbound.message_types.bodies import bodies_of

# As they are at this moment: one may have been paused, moved or deleted since it was claimed.
_READ = text("""
    SELECT m.id, m.endpoint_id, m.type, m.content, m.created_at, m.attempt_count, e.organization_id, e.sealed
    FROM webhook_messages m JOIN webhook_endpoints e ON e.id = m.endpoint_id
    WHERE m.id = ANY(:ids) AND m.state = 'due' AND e.state = 'active'
""")


class Sendable(NamedTuple):
    """A message as it stands."""

    id: UUID
    endpoint_id: UUID
    type: str
    content: dict[str, Any]
    created_at: datetime
    attempt_count: int
    organization_id: UUID
    sealed: bytes


class Rendered(NamedTuple):
    """What to send, and where; no `body` when nothing is left to tell, no `config` when it cannot be rendered."""

    message: Sendable
    config: EndpointConfig | None
    body: bytes | None


class Renderer:
    """Renders for one worker."""

    def __init__(self, database: Database, ring: KeyRing, types: MessageTypes) -> None:
        self._database = database
        self._types = types
        self._ring = ring
        # Unsealed once for all that is sent to an endpoint until it is changed.
        self._open = lru_cache(1024)(self._opened)

    async def render(self, due: Sequence[DueMessage]) -> Sequence[Rendered | None]:
        """What to send for each, in their order; None for what is not to be sent any more."""
        ids = [one.id for one in due]
        try:
            pairs = await self._bodies(ids)
        except Exception as error:
            if is_unreachable(error):
                raise
            # One that cannot be rendered, whatever is wrong with it, must not cost its neighbours.
            pairs = [pair for id_ in ids for pair in await self._alone(id_)]
        rendered = {message.id: self._rendered(message, body) for message, body in pairs}
        return [rendered.get(id_) for id_ in ids]

    async def _bodies(self, ids: Sequence[UUID]) -> "list[tuple[Sendable, bytes | _Broken | None]]":
        async with self._database.transaction() as session:
            messages = await _read(session, ids)
            return list(zip(messages, await bodies_of(session, self._ring, self._types, messages), strict=True))

    async def _alone(self, id_: UUID) -> "list[tuple[Sendable, bytes | _Broken | None]]":
        try:
            return await self._bodies([id_])
        except Exception as error:
            if is_unreachable(error):
                raise
            log.error("webhook cannot be written", **failure_of(error))
        async with self._database.transaction() as session:
            return [(message, _Broken()) for message in await _read(session, [id_])]

    def _rendered(self, message: Sendable, body: "bytes | _Broken | None") -> Rendered:
        if isinstance(body, _Broken):
            return Rendered(message, None, None)
        if body is None and message.type not in self._types:
            # A later version, beside which this one still runs, has made it, and can send it soon.
            return Rendered(message, None, None)
        return Rendered(message, self._open(message.endpoint_id, message.sealed), body)

    def _opened(self, endpoint_id: UUID, sealed: bytes) -> EndpointConfig | None:
        try:
            return open_config(self._ring, endpoint_id, sealed)
        except (SealBrokenError, LookupError, ValueError) as error:
            log.error("endpoint cannot be opened", **failure_of(error))
            return None


class _Broken:
    """Stands for a body that cannot be rendered."""


async def _read(session: AsyncSession, ids: Sequence[UUID]) -> list[Sendable]:
    return [Sendable(*row) for row in await session.execute(_READ, {"ids": list(ids)})]
