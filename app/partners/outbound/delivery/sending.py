"""Sending one message: it is written, posted, and what came of it recorded, the first and the last many at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from app.kit.clock import now
from app.kit.database.group_commit import GroupCommit
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.settings import Settings
from app.kit.webhooks import signing as webhooks
from app.kit.webhooks.client import Response, WebhookClient
from app.partners.outbound.backoff import due_again
from app.partners.outbound.delivery.leases import Due
from app.partners.outbound.delivery.render import Writing, Written
from app.partners.outbound.delivery.results import Attempt, Ending, Recording
from app.partners.outbound.endpoints.sealed_config import Whereabouts
from app.partners.sealing import attempts_identity

# Seconds: how long a failing transaction is tried again.
WRITING_PATIENCE, RECORDING_PATIENCE = 5.0, 25.0
_AGENT = "Multitude-Webhooks/1"
_GONE = 410
# Of more than so many at once a batch waits for so many seconds.
_FEW = 4
_UNHURRIED = 0.006

Item = TypeVar("Item")
Result = TypeVar("Result")


class Sending:
    """Sends for one worker."""

    def __init__(self, database: Database, settings: Settings, outgoing: WebhookClient) -> None:
        self._ring = settings.key_ring
        self._outgoing = outgoing
        many = settings.webhook_connections
        write, record = Writing(database, self._ring).write, Recording(database).record
        self._writing: GroupCommit[Due, Written | None] = GroupCommit(
            _unhurried(write), queue_limit=many, batch_limit=many, patience=WRITING_PATIENCE
        )
        self._recording: GroupCommit[Attempt, None] = GroupCommit(
            _unhurried(record), queue_limit=many, batch_limit=many, patience=RECORDING_PATIENCE
        )

    def start(self) -> None:
        """Before anything is sent."""
        self._writing.start()
        self._recording.start()

    async def drain(self) -> None:
        """When nothing is sent any more: what came of it is recorded first."""
        await self._writing.drain()
        await self._recording.drain()

    async def send(self, due: Due, until: float) -> bool:
        """Send one message and record it; whether those behind it may be sent. Nothing is posted after `until`.

        Raises when it cannot be written or recorded, whatever the reason: it is still due then.
        """
        written = await self._writing.add(due)
        if written is None or time.monotonic() > until:
            return False
        attempt = await self._attempt(due, written)
        await self._recording.add(attempt)
        return attempt.ending in {"delivered", "void"}

    async def _attempt(self, due: Due, written: Written) -> Attempt:
        moment = now()
        if written.whereabouts is not None and written.body is None:
            return Attempt(uuid7(), due.endpoint_id, due.id, due.is_ordered, moment, "void", moment)
        try:
            return self._ended(due, written, moment, await self._answer(written, due.id, moment))
        except Exception as error:  # noqa: BLE001 - it is a failure like others, and is tried again as seldom
            log.error("webhook cannot be sent", endpoint_id=str(due.endpoint_id), **failure_of(error))
            return self._ended(due, written, moment, Response(None, b"", "failed", None, 0.0))

    def _ended(self, due: Due, written: Written, moment: datetime, answer: Response) -> Attempt:
        id_ = uuid7()
        return Attempt(
            id=id_,
            endpoint_id=due.endpoint_id,
            message_id=due.id,
            is_ordered=due.is_ordered,
            attempted_at=moment,
            ending=_ending(answer),
            due_at=due_again(now(), written.message.attempt_count + 1, answer.retry_after),
            duration_ms=round(answer.seconds * 1000),
            status_code=answer.status_code,
            error=answer.error,
            answer=self._ring.seal(answer.body, attempts_identity(id_)),
        )

    async def _answer(self, written: Written, id_: UUID, moment: datetime) -> Response:
        if written.whereabouts is None or written.body is None:
            return Response(None, b"", "unwritable", None, 0.0)
        headers = _headers(id_, written.whereabouts, written.body, moment)
        return await self._outgoing.post(written.whereabouts.url, headers, written.body)


def _headers(message_id: UUID, whereabouts: Whereabouts, body: bytes, moment: datetime) -> dict[str, str]:
    timestamp, webhook_id = int(moment.timestamp()), f"msg_{message_id}"
    return {
        webhooks.ID: webhook_id,
        webhooks.TIMESTAMP: str(timestamp),
        webhooks.SIGNATURE: webhooks.sign(whereabouts.keys(moment), webhook_id, timestamp, body),
        "content-type": "application/json",
        "user-agent": _AGENT,
    }


def _ending(answer: Response) -> Ending:
    if answer.error is None:
        return "delivered"
    return "gone" if answer.status_code == _GONE else "failed"


def _unhurried(commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> Callable[..., Any]:
    """The same, a little later when there is much to do: the next batch is larger, and all of it takes less work."""

    async def committed(items: Sequence[Item]) -> Sequence[Result]:
        if len(items) > _FEW:
            await asyncio.sleep(_UNHURRIED)
        return await commit(items)

    return committed
