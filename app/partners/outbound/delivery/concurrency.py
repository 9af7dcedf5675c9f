"""Concurrency limits: which endpoint gets how many of a worker's connections, so that a slow one delays no other.

Each endpoint gets one connection as long as any are free. Further ones come out of half of all connections, so that
slow endpoints with much to be told never take the first one of another. A tenth is kept for failing endpoints, however
busy the others are; they get one each, and no more than half of all together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.partners.outbound.delivery.leases import DueMessage, LeasedEndpoint

# Connections to one endpoint at the most.
_EACH = 8


@dataclass(eq=False)
class EndpointRun:
    """An endpoint that is being delivered to since `began` (monotonic), through so many connections.

    `is_resting`: something of ours went wrong, so it is left alone for a while.
    """

    leased: LeasedEndpoint
    connections: int
    began: float
    is_resting: bool = False


class ConnectionShares:
    """Shares out the connections of one worker."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._each = max(1, min(_EACH, count // 10))
        self._further = count // 2
        self._most = {False: max(1, count - max(1, count // 10)), True: max(1, count // 2)}

    def free(self, runs: Collection[EndpointRun], *, failing: bool) -> int:
        """How many more endpoints can be leased, of those that are failing or of the others."""
        used = sum(run.connections for run in runs)
        alike = sum(run.connections for run in runs if run.leased.is_failing == failing)
        return max(0, min(self._count - used, self._most[failing] - alike))

    def share_out(
        self, leased: Sequence[LeasedEndpoint], runs: Collection[EndpointRun], began: float
    ) -> list[EndpointRun]:
        """One connection for each of these; those that can use more share equally what is left, up to a limit each."""
        made = [EndpointRun(one, 1, began) for one in leased]
        together = [*runs, *made]
        further = self._further - sum(run.connections - 1 for run in runs)
        left = max(0, min(further, self.free(together, failing=False)))
        eager = [run for run in made if not run.leased.is_failing]
        for number, run in enumerate(eager):
            part = -(-left // (len(eager) - number))
            more = min(self._each - 1, _parallel(run.leased.messages) - 1, part)
            run.connections += more
            left -= more
        return made


def _parallel(messages: Sequence[DueMessage]) -> int:
    """How many of them can be sent at the same time."""
    ordered = sum(one.is_ordered for one in messages)
    return max(1, len(messages) - ordered + min(1, ordered))
