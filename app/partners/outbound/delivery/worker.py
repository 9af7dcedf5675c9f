"""Delivering webhook messages: claimed in a transaction, posted without one, recorded in a transaction.

Each endpoint is held by one worker at a time and delivered to by a task of its own, over connections of its own number
(`concurrency.py`): so one that hangs delays nobody else. When there are more endpoints than places, each has its turn.
Messages whose order counts go one after the other, each recorded before the next is sent; when one fails, those behind
it wait for it. Whatever happens to a worker, what it had not recorded is sent again when its hold has run out.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Collection, Sequence
from datetime import timedelta

from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.settings import Settings
from app.kit.webhooks.client import CheckedTransport, WebhookClient
from app.kit.webhooks.egress import EgressPolicy, Resolver, SystemResolver
from app.partners.outbound.delivery.concurrency import Places, Run
from app.partners.outbound.delivery.leases import Due, Held, claim, release
from app.partners.outbound.delivery.sending import Sending
from app.partners.outbound.endpoints.cleanup import clear

# Seconds: of a hold, messages are begun in the first part of it, and posted in the first two. To post one and to record
# it takes less than the rest, timeouts included.
_BEGINNING, _POSTING, _REST = 15.0, 10.0, 40.0
# So long an endpoint is delivered to at least, also when others wait.
_SLICE = 1.0
# Seconds for which an endpoint is left alone when something of ours went wrong.
_RECOVERY = timedelta(seconds=30)
# Seconds that what is under way has when the worker ends.
_LEAVING = 5.0
# Seconds in which others end as well: they are claimed anew together.
_GATHERING = 0.02


class Delivery:
    """One worker's: holds endpoints, and delivers to them."""

    def __init__(self, database: Database, settings: Settings, outgoing: WebhookClient) -> None:
        self._database = database
        self._sending = Sending(database, settings, outgoing)
        self._places = Places(settings.webhook_connections)
        self._lease = timedelta(seconds=_BEGINNING + _POSTING + _REST + settings.webhook_timeout_seconds)
        self._running: dict[asyncio.Task[None], Run] = {}
        # Whether there may be others of their kind that wait for a place: of those that fail, of the rest.
        self._is_full = {False: False, True: False}
        self._kinds = [False, True]

    async def run(self, ending: asyncio.Event, seconds: float) -> None:
        """Deliver until `ending` is set, looking for more every so many seconds."""
        self._sending.start()
        try:
            while not ending.is_set():
                claimed = await self._claim_patiently()
                if claimed is None:
                    await _wait(ending, seconds)
                    continue
                self._begin(claimed, ending)
                await self._pause(ending, seconds)
        finally:
            await self._leave(ending)

    async def _leave(self, ending: asyncio.Event) -> None:
        """Let what is under way end, if not for long; what is cut short is still due, and may come twice."""
        if self._running and ending.is_set():
            await asyncio.wait(self._running, timeout=_LEAVING)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._sending.drain()
        try:
            await self._let_go(self._running.values())
        except Exception as error:  # noqa: BLE001 - the holds run out by themselves
            log.warning("delivering failed", **failure_of(error))

    async def _claim_patiently(self) -> list[Run] | None:
        """What is to be delivered to from now on; None when that cannot be known at the moment."""
        try:
            return await self._claim()
        except Exception as error:  # noqa: BLE001 - it is tried again after a while
            log.warning("delivering failed", **failure_of(error))
            return None

    async def _claim(self) -> list[Run]:
        """Let go of what has been delivered to, and hold what is due, as far as places are free."""
        over = [task for task in self._running if task.done()]
        await self._let_go([self._running[task] for task in over])
        for task in over:
            del self._running[task]
        # Where there is but one place each kind comes first in its turn.
        self._kinds.reverse()
        began, held = time.monotonic(), list[Held]()
        async with self._database.transaction() as session:
            for failing in self._kinds:
                taken = [*self._running.values(), *(Run(one, 1, began) for one in held)]
                free = self._places.free(taken, failing=failing)
                found = await claim(session, self._lease, limit=free, failing=failing) if free else []
                self._is_full[failing] = len(found) == free
                held += found
        return self._places.shared(held, self._running.values(), began)

    async def _let_go(self, runs: Collection[Run]) -> None:
        if not runs:
            return
        async with self._database.transaction() as session:
            await release(session, [run.held for run in runs if not run.is_held_back])
            await release(session, [run.held for run in runs if run.is_held_back], _RECOVERY)

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

    async def _deliver(self, run: Run, ending: asyncio.Event) -> None:
        """Deliver what is due to one endpoint, as long as it may be begun."""
        ordered = deque(one for one in run.held.messages if one.is_ordered)
        others = deque(one for one in run.held.messages if not one.is_ordered)

        async def carry(*queues: deque[Due]) -> None:
            for queue in queues:
                await self._carry(run, queue, ending)

        await asyncio.gather(carry(ordered, others), *(carry(others) for _ in range(run.connections - 1)))

    async def _carry(self, run: Run, queue: deque[Due], ending: asyncio.Event) -> None:
        """Send one after the other; of those whose order counts none behind one that was not taken."""
        is_first = True
        while queue and not ending.is_set() and self._goes_on(run, is_first=is_first):
            due, is_first = queue.popleft(), False
            try:
                passed = await self._sending.send(due, run.began + _BEGINNING + _POSTING)
            except Exception as error:  # noqa: BLE001 - sent again at once, it would come again and again
                run.is_held_back = True
                log.error("delivering failed", endpoint_id=str(due.endpoint_id), **failure_of(error))
                return
            if due.is_ordered and not passed:
                return

    def _goes_on(self, run: Run, *, is_first: bool) -> bool:
        spent = time.monotonic() - run.began
        has_had_its_turn = self._is_full[run.held.is_failing] and spent >= _SLICE and not is_first
        return spent < _BEGINNING and not has_had_its_turn and not run.is_held_back


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return


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
    targets = EgressPolicy(resolver or system, loopback=settings.may_call_loopback)
    async with CheckedTransport(targets, tls) as transport:
        outgoing = WebhookClient(transport, targets, settings.webhook_timeout_seconds)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(clear(database, ending, settings.sweep_seconds))
                tasks.create_task(Delivery(database, settings, outgoing).run(ending, settings.sweep_seconds))
        finally:
            system.close()
