"""Idempotent receiver: a webhook is known by its id, and sent again it is given the answer it was given first.

Its row is claimed before anything is done, and given its answer in a transaction before the answer is sent. While the
process that has claimed it lives, others wait; when it is gone the next one does it again, which is harmless: the
signatures get the same ids, so those that were counted are recognized (`signatures/engine/insert.py`).
"""

import asyncio
import hashlib
import re
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from app.kit.crypto.sealing import KeyRing, padded
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.problems import Conflict, Problem, Unavailable
from app.kit.web.large_bodies import BodyReservation
from app.partners.inbound import requests
from app.partners.inbound.fair_share import Admission, FairShare
from app.partners.inbound.process_lock import ProcessLock
from app.partners.inbound.requests import Answered, Claimed
from app.partners.sealing import answers_identity
from app.people.pseudonyms import signature_id

# Seconds that whoever sent it is kept waiting; the work goes on without them.
ANSWER_TIMEOUT = 25
# Seconds between two looks at a webhook that another process works on.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
# Seconds that what is being worked on is given when the process ends.
_DRAIN_TIMEOUT = 10
_FIRST_FAILURE = 500
# Rows that are claimed at the same time: a crowd waits here, not for connections that others need as well.
_CLAIMS_AT_ONCE = 4
# Of zlib's levels the quickest.
_COMPRESSION = 1
# A signature's own id, a UUIDv7, where an answer names it: ours, and OSDI's.
_OWN_ID = re.compile(
    rb'(?:(?<="signature_id":")|(?<="multitude:))[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}(?=")'
)


class WebhookIdTaken(Conflict):
    """Another webhook has had this id: it is for sending the very same again."""

    slug = "webhook-id-taken"


class Webhook(NamedTuple):
    """A webhook that is being worked on. The ids of its signatures are made from its own."""

    id: UUID
    received_at: datetime


class _Running(NamedTuple):
    body_digest: bytes
    task: "asyncio.Task[bytes]"


# What is to be done about a webhook, once; gives the answer.
Work: TypeAlias = Callable[[Webhook], Awaitable[bytes]]
_Key: TypeAlias = tuple[UUID, bytes]


class IdempotentReceiver:
    """One per process."""

    def __init__(self, database: Database, ring: KeyRing, fair_share: FairShare) -> None:
        self._database = database
        self._ring = ring
        self._fair_share = fair_share
        self._process_lock = ProcessLock(database)
        self._claiming = asyncio.Semaphore(_CLAIMS_AT_ONCE)
        self._running: dict[_Key, _Running] = {}

    def digest_of(self, body: bytes) -> bytes:
        """By what a body is known again, 16 bytes. It gives nobody's data away."""
        return self._ring.digest(f"webhook body {hashlib.sha256(body).hexdigest()}")

    async def receive(
        self,
        organization_id: UUID,
        webhook_id: str,
        body_digest: bytes,
        work: Work,
        reservation: BodyReservation | None = None,
    ) -> bytes:
        """The answer to this webhook: that of `work`, done once, or the one it was given before.

        `webhook_id` begins with its scheme ("osdi:..."). `reservation` is that of its body, if it had one of its own. A
        `Problem` below 500 that `work` raises says that nothing was counted: the webhook is forgotten then, and its id
        is free. WebhookIdTaken, QueueFull, Unavailable.
        """
        key = organization_id, self._ring.digest(f"webhook {webhook_id}")
        running = self._running.get(key)
        if running is None:
            running = self._start(key, body_digest, work, reservation)
        if running.body_digest != body_digest:
            raise WebhookIdTaken
        # Whoever goes away does not end what others wait for.
        done, _ = await asyncio.wait([running.task], timeout=ANSWER_TIMEOUT)
        if not done:
            raise Unavailable("It is still being worked on: send it again.", retry_after=5)
        return running.task.result()

    def _start(self, key: _Key, body_digest: bytes, work: Work, reservation: BodyReservation | None) -> _Running:
        """QueueFull before anything is done."""
        admission = self._fair_share.admission(reservation.taken if reservation is not None else 0)
        admission.enter()
        task = asyncio.create_task(self._answer(key, body_digest, work, admission), name="webhook")
        self._running[key] = running = _Running(body_digest, task)
        if reservation is not None:
            reservation.release_after(task)

        def end(task: "asyncio.Task[bytes]") -> None:
            admission.leave()
            del self._running[key]
            if not task.cancelled():
                # Nobody may be left to be told.
                task.exception()

        task.add_done_callback(end)
        return running

    async def _answer(self, key: _Key, body_digest: bytes, work: Work, admission: Admission) -> bytes:
        """Claim the webhook and work on it, or wait until another process has answered it."""
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        until = loop.time() + ANSWER_TIMEOUT
        while (known := await self._claim(key, body_digest)) is None:
            if loop.time() > until:
                raise Unavailable("Another process works on it: send it again.", retry_after=5)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if isinstance(known, Claimed):
            return await self._do(key, known, work, admission)
        assert known.sealed is not None
        return await asyncio.to_thread(self._opened, key, known.id, known.sealed)

    async def _claim(self, key: _Key, body_digest: bytes) -> Claimed | Answered | None:
        """What is to be worked on, or has its answer; None while another process works on it. WebhookIdTaken."""
        lock_key = await self._process_lock.key()
        async with self._claiming, self._database.transaction() as session:
            claimed = await requests.claim(session, *key, body_digest, lock_key)
            known = claimed or await requests.find(session, *key)
        if isinstance(known, Answered):
            if known.body_digest != body_digest:
                raise WebhookIdTaken
            return known if known.sealed is not None else None
        return known

    async def _do(self, key: _Key, claimed: Claimed, work: Work, admission: Admission) -> bytes:
        try:
            async with admission.slots:
                answer = await work(Webhook(claimed.id, claimed.received_at))
            return await self._record(key, claimed.id, answer)
        except BaseException as error:
            forgotten = isinstance(error, Problem) and error.status < _FIRST_FAILURE
            await self._release(claimed, forgotten=forgotten)
            raise

    async def _record(self, key: _Key, id_: UUID, answer: bytes) -> bytes:
        sealed = await asyncio.to_thread(self._sealed, id_, answer)
        async with self._database.transaction() as session:
            kept = await requests.record(session, id_, sealed)
        return answer if kept is sealed else await asyncio.to_thread(self._opened, key, id_, kept)

    def _sealed(self, id_: UUID, answer: bytes) -> bytes:
        # Zeros behind its end are passed over.
        return self._ring.seal(padded(zlib.compress(answer, _COMPRESSION), b"\0"), answers_identity(id_))

    def _opened(self, key: _Key, id_: UUID, sealed: bytes) -> bytes:
        """The answer; what the version before has answered, which named our own ids, with the pseudonyms."""
        answer = zlib.decompress(self._ring.open(sealed, answers_identity(id_)))
        return _OWN_ID.sub(lambda own: signature_id(self._ring, key[0], UUID(own[0].decode())).encode(), answer)

    async def _release(self, claimed: Claimed, *, forgotten: bool) -> None:
        try:
            async with self._database.transaction() as session:
                await requests.release(session, claimed, forgotten=forgotten)
        except Exception as error:  # noqa: BLE001 - what matters is raised by the caller
            log.warning("a webhook was not let go", **failure_of(error))
            # Then others can claim all that this process has claimed.
            self._process_lock.drop()

    async def close(self) -> None:
        """Finish what is being worked on; what cannot be finished is left to whoever it is sent to next."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAIN_TIMEOUT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._process_lock.close()
