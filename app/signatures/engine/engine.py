"""The signing engine of one process: group commit in front of a lane, and a second lane for bulk.

Whoever signs, confirms, withdraws or is erased one by one shares the batches of the first; what partners send in many
goes through the second, so that nobody waits behind ten thousand others.
"""

from collections.abc import Awaitable

from app.kit.database.group_commit import GroupCommit
from app.kit.database.session import Database
from app.signatures.engine.bulk import BulkQueues
from app.signatures.engine.signings import Outcome
from app.signatures.engine.writer import Item, LaneWriter, OnCommit


class SigningEngine:
    """What every signature of this process goes through. Started once, closed once."""

    def __init__(
        self,
        database: Database,
        fingerprint: str,
        on_commit: OnCommit,
        *,
        queue_limit: int,
        batch_limit: int,
        retry_timeout: float,
    ) -> None:
        """`fingerprint` names the key ring the database must have been filled with. `retry_timeout` in seconds."""
        self.writer = LaneWriter(database, fingerprint, on_commit)
        self._queue: GroupCommit[Item, Outcome] = GroupCommit(
            self.writer.commit, queue_limit=queue_limit, batch_limit=batch_limit, retry_timeout=retry_timeout
        )
        self._bulk_writer = LaneWriter(database, fingerprint, on_commit)
        self.bulk = BulkQueues(self._bulk_writer.write, retry_timeout)

    def start(self) -> None:
        """Begin to take items."""
        self._queue.start()
        self.bulk.start()

    def submit(self, item: Item) -> Awaitable[Outcome]:
        """Join the batch being gathered; returns when that batch has committed. QueueFull, Unavailable."""
        return self._queue.submit(item)

    @property
    def is_busy(self) -> bool:
        """Whether anybody who signs one by one waits, or is being committed at this moment."""
        return self._queue.is_busy

    async def close(self) -> None:
        """Settle everything that was taken, then let the lanes go."""
        await self._queue.drain()
        await self.bulk.close()
        await self._bulk_writer.close()
        await self.writer.close()
