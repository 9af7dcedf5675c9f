"""The hot room's machinery, one per process: directory, counts, streams, and the queue in front of the intake."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.kit import metrics
from app.kit.abuse.challenges import Challenges
from app.kit.abuse.client_addresses import ClientIpDigester, TrustedProxies
from app.kit.abuse.rate_limits import Limiter
from app.kit.crypto.sealing import KeyRing
from app.kit.database.group_commit import GroupCommit
from app.kit.database.session import COMMIT_TIMEOUT, Database, is_refusal
from app.kit.settings import Settings
from app.people.consents.policy import Asking, open_asking
from app.petitions.directory import Directory, open_directory
from app.signatures.engine import insert, transitions
from app.signatures.engine.bulk import Bulk
from app.signatures.engine.insert import Committed, Outcome, Signing
from app.signatures.engine.lanes import Lane, claim
from app.signatures.engine.transitions import Confirmation, Erasure, Withdrawal
from app.signatures.reading.breakdown import Breakdowns, open_breakdowns
from app.signatures.reading.counts import Counts
from app.signatures.reading.streams import Streams

Item = Signing | Confirmation | Withdrawal | Erasure
# One transaction each, in this order.
_VERBS: dict[type[Item], Callable[[Lane, Sequence[Any]], Awaitable[Committed]]] = {
    Signing: insert.sign,
    Confirmation: transitions.confirm,
    Withdrawal: transitions.withdraw,
    Erasure: transitions.erase,
}


class LaneWriter:
    """Commits batches through this process's lane, claiming a new one when the connection was lost."""

    def __init__(self, database: Database, counts: Counts, fingerprint: str) -> None:
        self._database = database
        self._fingerprint = fingerprint
        self._counts = counts
        self._lane: Lane | None = None

    async def commit(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """A transaction for each verb; an outcome per item, in order."""
        return await self._guarded(lambda lane: self._write(lane, items))

    async def write(self, verb: Callable[[Lane], Awaitable[Committed]]) -> Sequence[Outcome]:
        """One verb's own transaction; an outcome per item, in order."""

        async def write(lane: Lane) -> Sequence[Outcome]:
            return self._told(lane, await verb(lane))

        return await self._guarded(write)

    async def _guarded(self, work: Callable[[Lane], Awaitable[Sequence[Outcome]]]) -> Sequence[Outcome]:
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                if self._lane is None:
                    self._lane = await claim(self._database, self._fingerprint)
                outcomes = await work(self._lane)
        except BaseException as error:
            if not is_refusal(error) and self._lane is not None:
                self._lane.drop()
                self._lane = None
            raise
        metrics.signatures_accepted.inc(outcomes.count(Outcome.COUNTED) + outcomes.count(Outcome.CONFIRMED))
        return outcomes

    async def _write(self, lane: Lane, items: Sequence[Item]) -> Sequence[Outcome]:
        outcomes = {}
        for kind, verb in _VERBS.items():
            if chosen := [item for item in items if type(item) is kind]:
                told = self._told(lane, await verb(lane, chosen))
                if len(chosen) == len(items):
                    return told
                outcomes[kind] = iter(told)
        return [next(outcomes[type(item)]) for item in items]

    def _told(self, lane: Lane, committed: Committed) -> Sequence[Outcome]:
        self._counts.committed(lane.number, committed.totals)
        return committed.outcomes

    async def close(self) -> None:
        if self._lane is not None:
            await self._lane.release()
            self._lane = None


@dataclass(frozen=True, slots=True)
class SigningEngine:
    """What the routes of this room need."""

    ring: KeyRing
    directory: Directory
    counts: Counts
    breakdowns: Breakdowns
    streams: Streams
    queue: GroupCommit[Item, Outcome]
    writer: LaneWriter
    bulk: Bulk
    bulk_writer: LaneWriter
    asking: Asking
    proxies: TrustedProxies
    addresses: ClientIpDigester
    limiter: Limiter
    challenges: Challenges

    async def close(self) -> None:
        """Settle everything that was taken, then let the lane go."""
        await self.queue.drain()
        await self.bulk.close()
        await self.bulk_writer.close()
        await self.writer.close()


def open_signing_engine(settings: Settings, database: Database, limiter: Limiter) -> SigningEngine:
    """Start the queue of this process."""
    ring = settings.key_ring
    counts = Counts(database)
    writer = LaneWriter(database, counts, ring.fingerprint())
    queue = GroupCommit(
        writer.commit,
        queue_limit=settings.queue_limit,
        batch_limit=settings.batch_limit,
        patience=settings.commit_patience_seconds,
    )
    queue.start()
    bulk_writer = LaneWriter(database, counts, ring.fingerprint())
    bulk = Bulk(bulk_writer.write, settings.commit_patience_seconds)
    bulk.start()
    directory = open_directory(database)
    return SigningEngine(
        ring=ring,
        directory=directory,
        counts=counts,
        breakdowns=open_breakdowns(database),
        streams=Streams(directory, counts, settings.stream_limit),
        queue=queue,
        writer=writer,
        bulk=bulk,
        bulk_writer=bulk_writer,
        asking=open_asking(database),
        proxies=TrustedProxies(settings.trusted_proxies),
        addresses=ClientIpDigester(ring, database),
        limiter=limiter,
        challenges=Challenges(ring, limiter),
    )
