"""Concurrency limits: which endpoint gets how many of a worker's connections, so that a slow one delays no other.

Each endpoint gets one as long as there are any. More than one come out of a part of all, so those that are slow and
have much to be told leave to others their first. A part is for those that fail alone, however busy the rest are; they
get one each, and no more than a half of all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.partners.outbound.delivery.leases import DueMessage, LeasedEndpoint

# Connections to one endpoint at the most.
_EACH = 8


@dataclass(eq=False)
class EndpointRun:
    """An endpoint that is being delivered to since `began` (monotonic), through so many connections.

    `is_resting`: something of ours went wrong; it is to rest for a while.
    """

    held: LeasedEndpoint
    connections: int
    began: float
    is_resting: bool = False


class ConnectionShares:
    """So many, of one worker."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._each = max(1, min(_EACH, count // 10))
        self._further = count // 2
        self._most = {False: max(1, count - max(1, count // 10)), True: max(1, count // 2)}

    def free(self, runs: Collection[EndpointRun], *, failing: bool) -> int:
        """How many more endpoints can be held, of those that are failing or of the others."""
        used = sum(run.connections for run in runs)
        alike = sum(run.connections for run in runs if run.held.is_failing == failing)
        return max(0, min(self._count - used, self._most[failing] - alike))

    def shared(self, held: Sequence[LeasedEndpoint], runs: Collection[EndpointRun], began: float) -> list[EndpointRun]:
        """Each of these gets one, and those that can use more as many as are left, in equal parts, to a limit."""
        made = [EndpointRun(one, 1, began) for one in held]
        together = [*runs, *made]
        further = self._further - sum(run.connections - 1 for run in runs)
        left = max(0, min(further, self.free(together, failing=False)))
        eager = [run for run in made if not run.held.is_failing]
        for number, run in enumerate(eager):
            part = -(-left // (len(eager) - number))
            more = min(self._each - 1, _parallel(run.held.messages) - 1, part)
            run.connections += more
            left -= more
        return made


def _parallel(messages: Sequence[DueMessage]) -> int:
    """How many of them can be sent at the same time."""
    ordered = sum(one.is_ordered for one in messages)
    return max(1, len(messages) - ordered + min(1, ordered))
