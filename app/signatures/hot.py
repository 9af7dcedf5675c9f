"""The hot room's machinery, one per process: directory, counts, streams, and the queue in front of the intake."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.kit import metrics
from app.kit.batches import Batches
from app.kit.db import COMMIT_TIMEOUT, Database, refused
from app.kit.sealing import KeyRing
from app.kit.settings import Settings
from app.petitions.directory import Directory, open_directory
from app.signatures import intake
from app.signatures.breakdown import Breakdowns, open_breakdowns
from app.signatures.counts import Counts
from app.signatures.intake import Outcome, Signing, Withdrawal
from app.signatures.lanes import Lane, claim
from app.signatures.streams import Streams


class Writer:
    """Commits batches through this process's lane, claiming a new one when the connection was lost."""

    def __init__(self, database: Database, counts: Counts, fingerprint: str) -> None:
        self._database = database
        self._fingerprint = fingerprint
        self._counts = counts
        self._lane: Lane | None = None

    async def commit(self, items: Sequence[Signing | Withdrawal]) -> Sequence[Outcome]:
        """Signings in one transaction, withdrawals in the next; an outcome per item, in order."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                if self._lane is None:
                    self._lane = await claim(self._database, self._fingerprint)
                outcomes = await self._write(self._lane, items)
        except BaseException as error:
            if not refused(error) and self._lane is not None:
                self._lane.drop()
                self._lane = None
            raise
        metrics.signatures_accepted.inc(outcomes.count(Outcome.COUNTED))
        return outcomes

    async def _write(self, lane: Lane, items: Sequence[Signing | Withdrawal]) -> Sequence[Outcome]:
        signings = [item for item in items if isinstance(item, Signing)]
        withdrawals = [item for item in items if isinstance(item, Withdrawal)]
        outcomes: list[Outcome] = []
        if signings:
            outcomes += self._told(lane, await intake.sign(lane, signings))
        if not withdrawals:
            return outcomes
        withdrawn = self._told(lane, await intake.withdraw(lane, withdrawals))
        in_order = {True: iter(outcomes), False: iter(withdrawn)}
        return [next(in_order[isinstance(item, Signing)]) for item in items]

    def _told(self, lane: Lane, committed: intake.Committed) -> list[Outcome]:
        self._counts.committed(lane.number, committed.totals)
        return committed.outcomes

    async def close(self) -> None:
        if self._lane is not None:
            await self._lane.release()
            self._lane = None


@dataclass(frozen=True, slots=True)
class HotRoom:
    """What the routes of this room need."""

    ring: KeyRing
    directory: Directory
    counts: Counts
    breakdowns: Breakdowns
    streams: Streams
    queue: Batches[Signing | Withdrawal, Outcome]
    writer: Writer

    async def close(self) -> None:
        """Settle everything that was taken, then let the lane go."""
        await self.queue.drain()
        await self.writer.close()


def open_hot_room(settings: Settings, database: Database) -> HotRoom:
    """Start the queue of this process."""
    ring = settings.key_ring
    counts = Counts(database)
    writer = Writer(database, counts, ring.fingerprint())
    queue = Batches(
        writer.commit,
        queue_limit=settings.queue_limit,
        batch_limit=settings.batch_limit,
        patience=settings.commit_patience_seconds,
    )
    queue.start()
    directory = open_directory(database)
    streams = Streams(directory, counts, settings.stream_limit)
    return HotRoom(ring, directory, counts, open_breakdowns(database), streams, queue, writer)
