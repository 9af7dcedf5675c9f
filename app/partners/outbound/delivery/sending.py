"""Sending one message: it is rendered, posted, and its outcome recorded. Rendering and recording share transactions."""

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
from app.kit.webhooks import signing as webhooks
from app.kit.webhooks.client import Response, WebhookClient
from app.kit.webhooks.message_types import MessageTypes
from app.partners.outbound.backoff import due_again
from app.partners.outbound.delivery.leases import DueMessage
from app.partners.outbound.delivery.render import Rendered, Renderer
from app.partners.outbound.delivery.results import Attempt, Outcome, ResultRecorder
from app.partners.outbound.endpoints.sealed_config import EndpointConfig
from app.partners.sealing import attempts_identity
from app.partners.settings import PartnerSettings

# Seconds: how long a failing transaction is tried again.
RENDER_TIMEOUT, RECORD_TIMEOUT = 5.0, 25.0
_AGENT = "Multitude-Webhooks/1"
_GONE = 410
# A batch of more than so many is delayed by so many seconds.
_FEW = 4
_DELAY = 0.006

Item = TypeVar("Item")
Result = TypeVar("Result")


class MessageSender:
    """Sends for one worker."""

    def __init__(
        self, database: Database, settings: PartnerSettings, types: MessageTypes, outgoing: WebhookClient
    ) -> None:
        self._ring = settings.key_ring
        self._outgoing = outgoing
        many = settings.webhook_connections
        render, record = Renderer(database, self._ring, types).render, ResultRecorder(database).record
        self._rendering: GroupCommit[DueMessage, Rendered | None] = GroupCommit(
            _delayed(render), queue_limit=many, batch_limit=many, retry_timeout=RENDER_TIMEOUT
        )
        self._recording: GroupCommit[Attempt, None] = GroupCommit(
            _delayed(record), queue_limit=many, batch_limit=many, retry_timeout=RECORD_TIMEOUT
        )

    def start(self) -> None:
        """Call it before anything is sent."""
        self._rendering.start()
        self._recording.start()

    async def drain(self) -> None:
        """Call it when nothing is sent any more; returns when every outcome is recorded."""
        await self._rendering.drain()
        await self._recording.drain()

    async def send(self, due: DueMessage, until: float) -> bool:
        """Send one message and record its outcome; whether the next may be sent. Nothing is posted after `until`.

        Raises when it cannot be rendered or recorded, whatever the reason: it is still due then.
        """
        rendered = await self._rendering.submit(due)
        if rendered is None or time.monotonic() > until:
            return False
        attempt = await self._attempt(due, rendered)
        await self._recording.submit(attempt)
        return attempt.outcome in {Outcome.DELIVERED, Outcome.VOID}

    async def _attempt(self, due: DueMessage, rendered: Rendered) -> Attempt:
        moment = now()
        if rendered.config is not None and rendered.body is None:
            number = rendered.message.attempt_count + 1
            return Attempt(uuid7(), due.endpoint_id, due.id, due.is_ordered, moment, Outcome.VOID, moment, number)
        try:
            return self._ended(due, rendered, moment, await self._answer(rendered, due.id, moment))
        except Exception as error:  # noqa: BLE001 - it is a failure like any other, and tried again as late
            log.error("webhook cannot be sent", endpoint_id=str(due.endpoint_id), **failure_of(error))
            return self._ended(due, rendered, moment, Response(None, b"", "failed", None, 0.0))

    def _ended(self, due: DueMessage, rendered: Rendered, moment: datetime, answer: Response) -> Attempt:
        id_ = uuid7()
        return Attempt(
            id=id_,
            endpoint_id=due.endpoint_id,
            message_id=due.id,
            is_ordered=due.is_ordered,
            attempted_at=moment,
            outcome=_outcome(answer),
            due_at=due_again(now(), rendered.message.attempt_count + 1, answer.retry_after),
            number=rendered.message.attempt_count + 1,
            duration_ms=round(answer.seconds * 1000),
            status_code=answer.status_code,
            error=answer.error,
            answer=self._ring.seal(answer.body, attempts_identity(id_)),
        )

    async def _answer(self, rendered: Rendered, id_: UUID, moment: datetime) -> Response:
        if rendered.config is None or rendered.body is None:
            return Response(None, b"", "unwritable", None, 0.0)
        headers = _headers(id_, rendered.config, rendered.body, moment)
        return await self._outgoing.post(rendered.config.url, headers, rendered.body)


def _headers(message_id: UUID, config: EndpointConfig, body: bytes, moment: datetime) -> dict[str, str]:
    timestamp, webhook_id = int(moment.timestamp()), f"msg_{message_id}"
    return {
        webhooks.ID: webhook_id,
        webhooks.TIMESTAMP: str(timestamp),
        webhooks.SIGNATURE: webhooks.sign(config.keys(moment), webhook_id, timestamp, body),
        "content-type": "application/json",
        "user-agent": _AGENT,
    }


def _outcome(answer: Response) -> Outcome:
    if answer.error is None:
        return Outcome.DELIVERED
    return Outcome.GONE if answer.status_code == _GONE else Outcome.FAILED


def _delayed(commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> Callable[..., Any]:
    """Delays a batch of more than a few: meanwhile the next one grows, and fewer commits do the same work."""

    async def committed(items: Sequence[Item]) -> Sequence[Result]:
        if len(items) > _FEW:
            await asyncio.sleep(_DELAY)
        return await commit(items)

    return committed
