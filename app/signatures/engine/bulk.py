"""Bulk inserts: what partners post is committed in a few large batches, through a lane of its own.

So people who sign one by one never wait behind ten thousand others. There are two queues: small parts share a
transaction, as individual signatures do; a large part has a transaction to itself and is answered when that commits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, islice

from app.kit.database.group_commit import GroupCommit
from app.kit.database.session import is_refusal
from app.signatures.engine import insert
from app.signatures.engine.signings import Origin, Outcome, Signing

# Signatures in one transaction: enough that its commit costs nothing per signature, few enough that a person who is in
# it and signs here at the same moment waits a fraction of a second.
BATCH_LIMIT = 2000
# A part of up to so many signatures shares its transaction with others.
_SMALL = 20
# Parts that may wait in one process, large and small ones; more get 503.
_LARGE_QUEUE_LIMIT, _SMALL_QUEUE_LIMIT = 32, 512

Part = Sequence[Signing]
Write = Callable[..., Awaitable[Sequence[Outcome]]]


class BulkQueues:
    """Two group-commit queues, of large parts and of small ones, which take turns."""

    def __init__(self, write: Write, patience: float) -> None:
        """`write` runs a verb, with its arguments, on the lane of these queues; it claims a new one if that is lost."""
        self._write = write
        self._turn = asyncio.Lock()
        self._large: GroupCommit[Part, Sequence[Outcome]] = GroupCommit(
            self._commit, queue_limit=_LARGE_QUEUE_LIMIT, batch_limit=1, retry_timeout=patience, export_metrics=False
        )
        self._small: GroupCommit[Part, Sequence[Outcome]] = GroupCommit(
            self._commit,
            queue_limit=_SMALL_QUEUE_LIMIT,
            batch_limit=BATCH_LIMIT // _SMALL,
            retry_timeout=patience,
            export_metrics=False,
        )

    def start(self) -> None:
        self._large.start()
        self._small.start()

    async def submit(self, signings: Part) -> Sequence[Outcome]:
        """Commit up to `BATCH_LIMIT` signatures; an outcome for each, in order. QueueFull, Unavailable.

        Submitting the same signings (with the same ids) again is harmless: the outcome says what each has become.
        """
        try:
            return await (self._small if len(signings) <= _SMALL else self._large).submit(signings)
        except Exception as error:
            if not is_refusal(error):
                raise
        if len(signings) == 1:
            return [Outcome.INVALID]
        # The database refused one of them. Halve the part until that one is found: it must not cost the others.
        middle = len(signings) // 2
        return [*await self.submit(signings[:middle]), *await self.submit(signings[middle:])]

    async def close(self) -> None:
        """Settle what was taken."""
        await self._large.drain()
        await self._small.drain()

    async def _commit(self, parts: Sequence[Part]) -> Sequence[Sequence[Outcome]]:
        together = list(chain.from_iterable(parts))
        async with self._turn:
            outcomes = iter(await self._write(insert.sign, together, Origin.PARTNER))
        return [list(islice(outcomes, len(part))) for part in parts]
