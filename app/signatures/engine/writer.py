"""The writer: commits batches through a lane of its own, and claims a new lane when the connection was lost."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from app.kit import metrics
from app.kit.database.session import COMMIT_TIMEOUT, Database, is_refusal
from app.signatures.engine import confirm, erase, insert, withdraw
from app.signatures.engine.lanes import Lane, claim
from app.signatures.engine.signings import Committed, Outcome, Signing
from app.signatures.engine.transitions import Confirmation, Erasure, Withdrawal

Item = Signing | Confirmation | Withdrawal | Erasure
# Called after every commit with the lane's number and, of each petition the batch touched, its total in that lane.
OnCommit = Callable[[int, Mapping[UUID, int]], None]
# A batch is split by kind; each kind is a transaction of its own, in this order.
_VERBS: dict[type[Item], Callable[[Lane, Sequence[Any]], Awaitable[Committed]]] = {
    Signing: insert.sign,
    Confirmation: confirm.confirm,
    Withdrawal: withdraw.withdraw,
    Erasure: erase.erase,
}


class LaneWriter:
    """One writer's hold on the database; the lane is claimed with the first commit."""

    def __init__(self, database: Database, fingerprint: str, on_commit: OnCommit) -> None:
        self._database = database
        self._fingerprint = fingerprint
        self._on_commit = on_commit
        self._lane: Lane | None = None

    async def commit(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """Split the batch by kind and commit each kind in a transaction of its own; an outcome per item, in order."""
        return await self._guarded(lambda lane: self._commit_by_verb(lane, items))

    async def write(self, verb: Callable[..., Awaitable[Committed]], *arguments: object) -> Sequence[Outcome]:
        """One verb's own transaction; an outcome per item, in order."""

        async def write(lane: Lane) -> Sequence[Outcome]:
            return self._noted(lane, await verb(lane, *arguments))

        return await self._guarded(write)

    async def _guarded(self, work: Callable[[Lane], Awaitable[Sequence[Outcome]]]) -> Sequence[Outcome]:
        """Give the lane up after any error but a refusal: nobody knows what state its connection is in."""
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

    async def _commit_by_verb(self, lane: Lane, items: Sequence[Item]) -> Sequence[Outcome]:
        outcomes = {}
        for kind, verb in _VERBS.items():
            if chosen := [item for item in items if type(item) is kind]:
                noted = self._noted(lane, await verb(lane, chosen))
                if len(chosen) == len(items):
                    return noted
                outcomes[kind] = iter(noted)
        return [next(outcomes[type(item)]) for item in items]

    def _noted(self, lane: Lane, committed: Committed) -> Sequence[Outcome]:
        self._on_commit(lane.number, committed.totals)
        return committed.outcomes

    async def close(self) -> None:
        """Let the lane go."""
        if self._lane is not None:
            await self._lane.release()
            self._lane = None
