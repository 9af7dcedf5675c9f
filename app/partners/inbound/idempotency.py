"""Once only, whatever happens: a webhook is known by its id, and sent again it is given the answer it was given first.

Its row is claimed before anything is done, and given its answer in a transaction before the answer is sent. While the
process that has claimed it lives, others wait; when it is gone the next one does it again, which is harmless: the
signatures get the same ids, so those that stand are met as its own (`intake.sign`).
"""

import asyncio
import hashlib
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.problems import Conflict, Problem, Unavailable
from app.kit.web.large_bodies import BodyReservation
from app.partners.inbound import requests as received
from app.partners.inbound.fair_share import Courtesy, Places
from app.partners.inbound.process_lock import Runner
from app.partners.inbound.requests import Answered, Claimed
from app.partners.sealing import answers_identity

# Seconds that whoever sent it is kept waiting; the work goes on without them.
PATIENCE = 25
# Seconds between two looks at a webhook that another process works on.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
# Seconds that what is being worked on is given when the process ends.
_ENDING = 10
_FIRST_FAILURE = 500
# Rows that are looked for at the same time: a crowd waits here, not for connections that others need as well.
_CLAIMS = 4
# Of zlib's levels the quickest.
_COMPRESSION = 1


class WebhookIdTaken(Conflict):
    """Another webhook has had this id: it is for sending the very same again."""

    slug = "webhook-id-taken"


class Received(NamedTuple):
    """A webhook that is being worked on. Of its `id` the ids of its signatures are made."""

    id: UUID
    received_at: datetime


class _Running(NamedTuple):
    body_digest: bytes
    task: "asyncio.Task[bytes]"


Bring: TypeAlias = Callable[[Received], Awaitable[bytes]]
_Key: TypeAlias = tuple[UUID, bytes]


class Reception:
    """Where webhooks come in; one per process."""

    def __init__(self, database: Database, ring: KeyRing, courtesy: Courtesy) -> None:
        self._database = database
        self._ring = ring
        self._courtesy = courtesy
        self._runner = Runner(database)
        self._claiming = asyncio.Semaphore(_CLAIMS)
        self._running: dict[_Key, _Running] = {}

    def digest_of(self, body: bytes) -> bytes:
        """By what a body is known again, 16 bytes. It gives nobody's data away."""
        return self._ring.digest(f"webhook body {hashlib.sha256(body).hexdigest()}")

    async def receive(
        self,
        organization_id: UUID,
        webhook_id: str,
        body_digest: bytes,
        bring: Bring,
        share: BodyReservation | None = None,
    ) -> bytes:
        """The answer to this webhook: that of `bring`, called once, or the one it was given before.

        `webhook_id` begins with its scheme ("osdi:..."). `share` is that of its body, if it had one of its own. A
        `Problem` below 500 that `bring` raises says that nothing was counted: the webhook is forgotten then, and its
        id is free. WebhookIdTaken, QueueFull, Unavailable.
        """
        key = organization_id, self._ring.digest(f"webhook {webhook_id}")
        running = self._running.get(key)
        if running is None:
            running = self._start(key, body_digest, bring, share)
        if running.body_digest != body_digest:
            raise WebhookIdTaken
        # Whoever goes away does not end what others wait for.
        done, _ = await asyncio.wait([running.task], timeout=PATIENCE)
        if not done:
            raise Unavailable("It is still being worked on: send it again.", retry_after=5)
        return running.task.result()

    def _start(self, key: _Key, body_digest: bytes, bring: Bring, share: BodyReservation | None) -> _Running:
        """QueueFull before anything is done."""
        places = self._courtesy.places(share.taken if share is not None else 0)
        places.take()
        task = asyncio.create_task(self._attend(key, body_digest, bring, places), name="webhook")
        self._running[key] = running = _Running(body_digest, task)
        if share is not None:
            share.outlast(task)

        def end(task: "asyncio.Task[bytes]") -> None:
            places.leave()
            del self._running[key]
            if not task.cancelled():
                # Nobody may be left to be told.
                task.exception()

        task.add_done_callback(end)
        return running

    async def _attend(self, key: _Key, body_digest: bytes, bring: Bring, places: Places) -> bytes:
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        until = loop.time() + PATIENCE
        while (known := await self._claim(key, body_digest)) is None:
            if loop.time() > until:
                raise Unavailable("Another process works on it: send it again.", retry_after=5)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if isinstance(known, Claimed):
            return await self._work(known, bring, places)
        assert known.sealed is not None
        return await asyncio.to_thread(self._opened, known.id, known.sealed)

    async def _claim(self, key: _Key, body_digest: bytes) -> Claimed | Answered | None:
        """What is to be worked on, or has its answer; None while another process works on it. WebhookIdTaken."""
        runner = await self._runner.number()
        async with self._claiming, self._database.transaction() as session:
            claimed = await received.claim(session, *key, body_digest, runner)
            known = claimed or await received.find(session, *key)
        if isinstance(known, Answered):
            if known.body_digest != body_digest:
                raise WebhookIdTaken
            return known if known.sealed is not None else None
        return known

    async def _work(self, claimed: Claimed, bring: Bring, places: Places) -> bytes:
        try:
            async with places.working:
                answer = await bring(Received(claimed.id, claimed.received_at))
            return await self._record(claimed.id, answer)
        except BaseException as error:
            forgotten = isinstance(error, Problem) and error.status < _FIRST_FAILURE
            await self._let_go(claimed, forgotten=forgotten)
            raise

    async def _record(self, id_: UUID, answer: bytes) -> bytes:
        sealed = await asyncio.to_thread(self._sealed, id_, answer)
        async with self._database.transaction() as session:
            kept = await received.record(session, id_, sealed)
        return answer if kept is sealed else await asyncio.to_thread(self._opened, id_, kept)

    def _sealed(self, id_: UUID, answer: bytes) -> bytes:
        return self._ring.seal(zlib.compress(answer, _COMPRESSION), answers_identity(id_))

    def _opened(self, id_: UUID, sealed: bytes) -> bytes:
        return zlib.decompress(self._ring.open(sealed, answers_identity(id_)))

    async def _let_go(self, claimed: Claimed, *, forgotten: bool) -> None:
        try:
            async with self._database.transaction() as session:
                await received.release(session, claimed, forgotten=forgotten)
        except Exception as error:  # noqa: BLE001 - what matters is raised by the caller
            log.warning("a webhook was not let go", **failure_of(error))
            # Then all that was claimed by this number is anybody's.
            self._runner.drop()

    async def close(self) -> None:
        """Finish what is being worked on; what cannot be finished is left to whoever it is sent to next."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.close()
