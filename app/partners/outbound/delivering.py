"""Delivering webhook messages: claimed in a transaction, posted without one, recorded in a transaction.

Each endpoint is held by one worker at a time and delivered to by tasks of its own, over connections of its own
number: so one that hangs delays nobody else, and those that fail get one connection each and half of all at the most.
Messages whose order counts go one after the other, each recorded before the next is sent; when one fails, those behind
it wait for it. Whatever happens to a worker, what it had not recorded is sent again when its hold has run out.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from app.kit import webhooks
from app.kit.batches import Batches
from app.kit.clock import now
from app.kit.db import Database
from app.kit.ids import uuid7
from app.kit.logs import failure_of, log
from app.kit.outgoing import Answer, CheckedTransport, Outgoing
from app.kit.settings import Settings
from app.kit.targets import Resolver, SystemResolver, Targets
from app.partners.outbound.backoff import due_again
from app.partners.outbound.claiming import Due, Held, claim, release
from app.partners.outbound.recording import Attempt, Ending, Recording
from app.partners.outbound.writing import Writing, Written
from app.partners.sealing import attempts_identity

# Seconds: of a hold, messages are begun in this part of it alone. Writing one, the POST, and recording it take less
# than the rest, timeouts included.
_BEGINNING = 15.0
_REST = 50.0
# How long a failing transaction is tried again.
_WRITING_PATIENCE, _RECORDING_PATIENCE = 5.0, 25.0
# Connections to one endpoint at the most.
_EACH = 8
_AGENT = "Multitude-Webhooks/1"
_GONE = 410
# Seconds in which others end as well: they are claimed anew together.
_GATHERING = 0.02
# Of more than so many at once a batch waits for so many seconds.
_FEW = 4
_UNHURRIED = 0.006

Item = TypeVar("Item")
Result = TypeVar("Result")


class Run(NamedTuple):
    """An endpoint that is being delivered to, through so many connections."""

    held: Held
    connections: int


class Delivery:
    """One worker's: holds endpoints, and delivers to them."""

    def __init__(self, database: Database, settings: Settings, outgoing: Outgoing) -> None:
        self._database = database
        self._ring = settings.key_ring
        self._outgoing = outgoing
        self._connections = settings.webhook_connections
        self._each = max(1, min(_EACH, self._connections // 10))
        self._lease = timedelta(seconds=_BEGINNING + _REST + settings.webhook_timeout_seconds)
        self._running: dict[asyncio.Task[None], Run] = {}
        many = self._connections
        write, record = Writing(database, self._ring).write, Recording(database).record
        self._writing: Batches[Due, Written | None] = Batches(
            _unhurried(write), queue_limit=many, batch_limit=many, patience=_WRITING_PATIENCE
        )
        self._recording: Batches[Attempt, None] = Batches(
            _unhurried(record), queue_limit=many, batch_limit=many, patience=_RECORDING_PATIENCE
        )

    async def run(self, ending: asyncio.Event, seconds: float) -> None:
        """Deliver until `ending` is set, looking for more every so many seconds."""
        self._writing.start()
        self._recording.start()
        try:
            while not ending.is_set():
                claimed = await self._claim_patiently()
                self._begin(claimed, ending)
                await self._pause(ending, seconds)
        finally:
            if not ending.is_set():
                for task in self._running:
                    task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._let_go([run.held for run in self._running.values()])
            await self._writing.drain()
            await self._recording.drain()

    async def _claim_patiently(self) -> list[Run]:
        try:
            return await self._claim()
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("delivering failed", **failure_of(error))
            return []

    async def _claim(self) -> list[Run]:
        """Let go of what has been delivered to, and hold what is due, as far as connections are free."""
        over = [task for task in self._running if task.done()]
        async with self._database.transaction() as session:
            if over:
                await release(session, [self._running[task].held for task in over])
        for task in over:
            del self._running[task]
        held: list[Held] = []
        async with self._database.transaction() as session:
            for failing in (False, True):
                free = self._free(failing=failing) - len(held)
                held += await claim(session, self._lease, limit=free, failing=failing) if free > 0 else []
        return self._shared(held)

    def _free(self, *, failing: bool) -> int:
        used = sum(run.connections for run in self._running.values())
        free = self._connections - used
        if not failing:
            return free
        of_failing = sum(run.connections for run in self._running.values() if run.held.is_failing)
        return min(free, max(1, self._connections // 2) - of_failing)

    def _shared(self, held: Sequence[Held]) -> list[Run]:
        """Each gets one connection, and those that can use more as many as are left, to a limit."""
        left = self._free(failing=False) - len(held)
        runs = []
        for one in held:
            wanted = 1 if one.is_failing else min(self._each, _parallel(one.messages))
            more = max(0, min(wanted - 1, left))
            left -= more
            runs.append(Run(one, 1 + more))
        return runs

    def _begin(self, claimed: Sequence[Run], ending: asyncio.Event) -> None:
        for run in claimed:
            task = asyncio.create_task(self._deliver(run, ending), name="delivering")
            self._running[task] = run

    async def _pause(self, ending: asyncio.Event, seconds: float) -> None:
        """Until one is over, or so many seconds are, or all is to end."""
        ended = asyncio.create_task(ending.wait())
        done, _ = await asyncio.wait([ended, *self._running], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done and not ending.is_set():
            await asyncio.wait([ended], timeout=_GATHERING)
        ended.cancel()

    async def _let_go(self, held: Sequence[Held]) -> None:
        if not held:
            return
        try:
            async with self._database.transaction() as session:
                await release(session, held)
        except Exception as error:  # noqa: BLE001 - the holds run out by themselves
            log.warning("delivering failed", **failure_of(error))

    async def _deliver(self, run: Run, ending: asyncio.Event) -> None:
        """Deliver what is due to one endpoint, as long as it may be begun."""
        until = time.monotonic() + _BEGINNING
        ordered = deque(one for one in run.held.messages if one.is_ordered)
        others = deque(one for one in run.held.messages if not one.is_ordered)

        async def carry(queue: deque[Due]) -> None:
            while queue and time.monotonic() < until and not ending.is_set():
                if not await self._send(queue.popleft()) and queue is ordered:
                    break
            if queue is ordered:
                await carry(others)

        queues = [ordered if number == 0 else others for number in range(run.connections)]
        for end in await asyncio.gather(*map(carry, queues), return_exceptions=True):
            if isinstance(end, BaseException):
                log.warning("delivering failed", **failure_of(end))

    async def _send(self, due: Due) -> bool:
        """Send one message and record it; whether those behind it may be sent."""
        written = await self._writing.add(due)
        if written is None:
            return True
        attempt = await self._attempt(due, written)
        await self._recording.add(attempt)
        return attempt.ending in {"delivered", "void"}

    async def _attempt(self, due: Due, written: Written) -> Attempt:
        moment, id_ = now(), uuid7()
        message, whereabouts, body = written
        if whereabouts is not None and body is None:
            return Attempt(id_, due.endpoint_id, due.id, due.is_ordered, moment, "void", moment)
        if whereabouts is None or body is None:
            answer = Answer(None, b"", "unwritable", None, 0.0)
        else:
            timestamp, webhook_id = int(moment.timestamp()), f"msg_{due.id}"
            headers = {
                webhooks.ID: webhook_id,
                webhooks.TIMESTAMP: str(timestamp),
                webhooks.SIGNATURE: webhooks.sign(whereabouts.keys(moment), webhook_id, timestamp, body),
                "content-type": "application/json",
                "user-agent": _AGENT,
            }
            answer = await self._outgoing.post(whereabouts.url, headers, body)
        return Attempt(
            id=id_,
            endpoint_id=due.endpoint_id,
            message_id=due.id,
            is_ordered=due.is_ordered,
            attempted_at=moment,
            ending=_ending(answer),
            due_at=due_again(now(), message.attempt_count + 1, answer.retry_after),
            duration_ms=round(answer.seconds * 1000),
            status_code=answer.status_code,
            error=answer.error,
            answer=self._ring.seal(answer.body, attempts_identity(id_)),
        )


def _unhurried(commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> Callable[..., Any]:
    """The same, a little later when there is much to do: the next batch is larger, and all of it takes less work."""

    async def committed(items: Sequence[Item]) -> Sequence[Result]:
        if len(items) > _FEW:
            await asyncio.sleep(_UNHURRIED)
        return await commit(items)

    return committed


def _parallel(messages: Sequence[Due]) -> int:
    """How many of them can be sent at the same time."""
    ordered = sum(one.is_ordered for one in messages)
    return max(1, len(messages) - ordered + min(1, ordered))


def _ending(answer: Answer) -> Ending:
    if answer.error is None:
        return "delivered"
    return "gone" if answer.status_code == _GONE else "failed"


async def deliver(
    database: Database,
    settings: Settings,
    ending: asyncio.Event,
    *,
    resolver: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Deliver what is due until `ending` is set; with another resolver, or believing other certificates."""
    system = SystemResolver()
    targets = Targets(resolver or system, loopback=settings.is_local)
    async with CheckedTransport(targets, tls) as transport:
        outgoing = Outgoing(transport, targets, settings.webhook_timeout_seconds)
        try:
            await Delivery(database, settings, outgoing).run(ending, settings.sweep_seconds)
        finally:
            system.close()
