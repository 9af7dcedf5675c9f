"""Many signatures at once: what partners bring joins the intake in few large batches, through a lane of its own.

So those who sign one by one never wait behind ten thousand others.
"""

from collections.abc import Awaitable, Callable, Sequence

from app.kit.batches import Batches
from app.kit.db import refused
from app.signatures import intake
from app.signatures.intake import Committed, Outcome, Signing
from app.signatures.lanes import Lane

# Signatures in one transaction: enough that its commit costs nothing, few enough that whoever is in it and signs
# here at the same moment waits a fraction of a second.
CHUNK = 2000
# Chunks that may wait in one process; more get 503.
_QUEUE = 32

Part = Sequence[Signing]
Write = Callable[[Callable[[Lane], Awaitable[Committed]]], Awaitable[Sequence[Outcome]]]


class Bulk:
    """The queue of what is brought. It starts with the first."""

    def __init__(self, write: Write, patience: float) -> None:
        """`write` runs a verb on the lane of this queue, and claims another one if that is lost."""
        self._write = write
        self._queue: Batches[Part, Sequence[Outcome]] = Batches(
            self._commit, queue_limit=_QUEUE, batch_limit=1, patience=patience
        )

    def start(self) -> None:
        self._queue.start()

    async def bring(self, signings: Part) -> Sequence[Outcome]:
        """Commit up to `CHUNK` signatures; an outcome for each, in order. QueueFull, Unavailable.

        Bringing them again is harmless, if they have the same ids: each is met as what it has become.
        """
        try:
            return await self._queue.add(signings)
        except Exception as error:
            if not refused(error):
                raise
        if len(signings) == 1:
            return [Outcome.REFUSED]
        # One that the database will not take must not cost its neighbours.
        middle = len(signings) // 2
        return [*await self.bring(signings[:middle]), *await self.bring(signings[middle:])]

    async def close(self) -> None:
        """Settle what was taken."""
        await self._queue.drain()

    async def _commit(self, parts: Sequence[Part]) -> Sequence[Sequence[Outcome]]:
        (part,) = parts
        return [await self._write(lambda lane: intake.sign(lane, part, intake.BRING))]
