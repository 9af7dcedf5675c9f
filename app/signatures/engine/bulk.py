"""Many signatures at once: what partners bring joins the intake in few large batches, through a lane of its own.

So those who sign one by one never wait behind ten thousand others. What is brought one by one shares transactions, as
everybody's signatures do; large parts have one each, and are answered as soon as it is committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, islice

from app.kit.database.group_commit import GroupCommit
from app.kit.database.session import is_refusal
from app.signatures.engine import insert
from app.signatures.engine.insert import Committed, Outcome, Signing
from app.signatures.engine.lanes import Lane

# Signatures in one transaction: enough that its commit costs nothing, few enough that whoever is in it and signs
# here at the same moment waits a fraction of a second.
CHUNK = 2000
# Signatures of a part that shares its transaction with others.
_SMALL = 20
# Parts that may wait in one process, large and small ones; more get 503.
_LARGE_WAITING, _SMALL_WAITING = 32, 512

Part = Sequence[Signing]
Write = Callable[[Callable[[Lane], Awaitable[Committed]]], Awaitable[Sequence[Outcome]]]


class Bulk:
    """The queues of what is brought: of large parts, and of small ones. They take turns."""

    def __init__(self, write: Write, patience: float) -> None:
        """`write` runs a verb on the lane of these queues, one at a time, and claims another one if that is lost."""
        self._write = write
        self._turn = asyncio.Lock()
        self._large: GroupCommit[Part, Sequence[Outcome]] = GroupCommit(
            self._commit, queue_limit=_LARGE_WAITING, batch_limit=1, patience=patience, watched=False
        )
        self._small: GroupCommit[Part, Sequence[Outcome]] = GroupCommit(
            self._commit, queue_limit=_SMALL_WAITING, batch_limit=CHUNK // _SMALL, patience=patience, watched=False
        )

    def start(self) -> None:
        self._large.start()
        self._small.start()

    async def bring(self, signings: Part) -> Sequence[Outcome]:
        """Commit up to `CHUNK` signatures; an outcome for each, in order. QueueFull, Unavailable.

        Bringing them again is harmless, if they have the same ids: each is met as what it has become.
        """
        try:
            return await (self._small if len(signings) <= _SMALL else self._large).add(signings)
        except Exception as error:
            if not is_refusal(error):
                raise
        if len(signings) == 1:
            return [Outcome.INVALID]
        # One that the database will not take must not cost its neighbours.
        middle = len(signings) // 2
        return [*await self.bring(signings[:middle]), *await self.bring(signings[middle:])]

    async def close(self) -> None:
        """Settle what was taken."""
        await self._large.drain()
        await self._small.drain()

    async def _commit(self, parts: Sequence[Part]) -> Sequence[Sequence[Outcome]]:
        together = list(chain.from_iterable(parts))
        async with self._turn:
            outcomes = iter(await self._write(lambda lane: insert.sign(lane, together, insert.BRING)))
        return [list(islice(outcomes, len(part))) for part in parts]
