"""The delivery worker: webhook messages are claimed in a transaction, posted without one, recorded in a transaction.

Each endpoint is leased by one worker at a time, and delivered to by a task of its own through its own share of the
connections (`concurrency.py`): one that hangs delays no other. When there are more endpoints than connections, each has
its turn. Messages whose order is kept go one after the other, each recorded before the next is sent; when one fails,
those behind it wait. Whatever happens to a worker, what it had not recorded is sent again when its lease has expired.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Collection, Sequence
from datetime import timedelta

from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.room_interface import Services
from app.kit.waiting import wait_for_event
from app.kit.webhooks.client import WebhookClient
from app.kit.webhooks.egress import EgressPolicy, Resolver, SystemResolver
from app.kit.webhooks.message_types import MessageTypes
from app.partners.outbound.delivery.concurrency import ConnectionShares, EndpointRun
from app.partners.outbound.delivery.leases import DueMessage, LeasedEndpoint, claim, release
from app.partners.outbound.delivery.sending import MessageSender
from app.partners.outbound.endpoints.cleanup import clear
from app.partners.settings import PartnerSettings

# Seconds of a lease: messages are begun in the first part, and posted in the first two. Posting and recording one takes
# less than the rest, timeouts included.
_BEGINNING, _POSTING, _REST = 15.0, 10.0, 40.0
# Seconds for which an endpoint is delivered to at least, also when others wait.
_SLICE = 1.0
# Seconds for which an endpoint is left alone when something of ours went wrong.
_RECOVERY = timedelta(seconds=30)
# Seconds that what is under way has when the worker ends.
_DRAIN_TIMEOUT = 5.0
# Seconds to wait for others that end at the same time: they are claimed anew together.
_GATHER_SECONDS = 0.02


class DeliveryWorker:
    """Leases endpoints and delivers to them; one per process."""

    def __init__(
        self, database: Database, settings: PartnerSettings, types: MessageTypes, outgoing: WebhookClient
    ) -> None:
        self._database = database
        self._sender = MessageSender(database, settings, types, outgoing)
        self._shares = ConnectionShares(settings.webhook_connections)
        self._lease = timedelta(seconds=_BEGINNING + _POSTING + _REST + settings.webhook_timeout_seconds)
        self._running: dict[asyncio.Task[None], EndpointRun] = {}
        # By whether they are failing: whether more endpoints of that kind may wait for a connection.
        self._is_full = {False: False, True: False}
        self._kinds = [False, True]

    async def run(self, ending: asyncio.Event, seconds: float) -> None:
        """Deliver until `ending` is set, looking for more every so many seconds."""
        self._sender.start()
        try:
            while not ending.is_set():
                claimed = await self._try_claim()
                if claimed is None:
                    await wait_for_event(ending, seconds)
                    continue
                self._begin(claimed, ending)
                await self._pause(ending, seconds)
        finally:
            await self._leave(ending)

    async def _leave(self, ending: asyncio.Event) -> None:
        """Let what is under way end, if not for long; what is cut short is still due, and may come twice."""
        if self._running and ending.is_set():
            await asyncio.wait(self._running, timeout=_DRAIN_TIMEOUT)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._sender.drain()
        try:
            await self._release(self._running.values())
        except Exception as error:  # noqa: BLE001 - the leases expire by themselves
            log.warning("delivering failed", **failure_of(error))

    async def _try_claim(self) -> list[EndpointRun] | None:
        """What is to be delivered to from now on; None when that cannot be known at the moment."""
        try:
            return await self._claim()
        except Exception as error:  # noqa: BLE001 - it is tried again after a while
            log.warning("delivering failed", **failure_of(error))
            return None

    async def _claim(self) -> list[EndpointRun]:
        """Release what has been delivered to, and lease what is due, as far as connections are free."""
        over = [task for task in self._running if task.done()]
        await self._release([self._running[task] for task in over])
        for task in over:
            del self._running[task]
        # Where there is but one connection, each kind comes first in its turn.
        self._kinds.reverse()
        began, leased = time.monotonic(), list[LeasedEndpoint]()
        async with self._database.transaction() as session:
            for failing in self._kinds:
                taken = [*self._running.values(), *(EndpointRun(one, 1, began) for one in leased)]
                free = self._shares.free(taken, failing=failing)
                found = await claim(session, self._lease, limit=free, failing=failing) if free else []
                self._is_full[failing] = len(found) == free
                leased += found
        return self._shares.share_out(leased, self._running.values(), began)

    async def _release(self, runs: Collection[EndpointRun]) -> None:
        if not runs:
            return
        async with self._database.transaction() as session:
            await release(session, [run.leased for run in runs if not run.is_resting])
            await release(session, [run.leased for run in runs if run.is_resting], _RECOVERY)

    def _begin(self, claimed: Sequence[EndpointRun], ending: asyncio.Event) -> None:
        for run in claimed:
            task = asyncio.create_task(self._deliver(run, ending), name="delivering")
            self._running[task] = run

    async def _pause(self, ending: asyncio.Event, seconds: float) -> None:
        """Wait until one endpoint is done, or so many seconds have passed, or all is to end."""
        ended = asyncio.create_task(ending.wait())
        done, _ = await asyncio.wait([ended, *self._running], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done and not ending.is_set():
            await asyncio.wait([ended], timeout=_GATHER_SECONDS)
        ended.cancel()

    async def _deliver(self, run: EndpointRun, ending: asyncio.Event) -> None:
        """Deliver what is due to one endpoint, as long as its lease allows to begin another."""
        ordered = deque(one for one in run.leased.messages if one.is_ordered)
        others = deque(one for one in run.leased.messages if not one.is_ordered)

        async def send_all(*queues: deque[DueMessage]) -> None:
            for queue in queues:
                await self._send_queue(run, queue, ending)

        await asyncio.gather(send_all(ordered, others), *(send_all(others) for _ in range(run.connections - 1)))

    async def _send_queue(self, run: EndpointRun, queue: deque[DueMessage], ending: asyncio.Event) -> None:
        """Send one after the other; where order is kept, none behind one that was not taken."""
        is_first = True
        while queue and not ending.is_set() and self._goes_on(run, is_first=is_first):
            due, is_first = queue.popleft(), False
            try:
                passed = await self._sender.send(due, run.began + _BEGINNING + _POSTING)
            except Exception as error:  # noqa: BLE001 - sent again at once, it would come again and again
                run.is_resting = True
                log.error("delivering failed", endpoint_id=str(due.endpoint_id), **failure_of(error))
                return
            if due.is_ordered and not passed:
                return

    def _goes_on(self, run: EndpointRun, *, is_first: bool) -> bool:
        spent = time.monotonic() - run.began
        has_had_its_turn = self._is_full[run.leased.is_failing] and spent >= _SLICE and not is_first
        return spent < _BEGINNING and not has_had_its_turn and not run.is_resting


async def deliver(
    services: Services,
    ending: asyncio.Event,
    *,
    resolver: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Deliver what is due until `ending` is set; with another resolver, or believing other certificates."""
    database, settings = services.database, services.settings_as(PartnerSettings)
    system = SystemResolver()
    targets = EgressPolicy(resolver or system, loopback=settings.may_call_loopback)
    async with WebhookClient(targets, settings.webhook_timeout_seconds, tls) as outgoing:
        delivery = DeliveryWorker(database, settings, services.message_types, outgoing)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(clear(database, ending, settings.sweep_seconds))
                tasks.create_task(delivery.run(ending, settings.sweep_seconds))
        finally:
            system.close()
