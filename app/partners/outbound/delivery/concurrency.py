"""Places: the connections of one worker, and who gets how many, so that nobody's slowness is another's waiting.

Each endpoint gets one as long as there are any. More than one come out of a part of all, so those that are slow and
have much to be told leave to others their first. A part is for those that fail alone, however busy the rest are; they
get one each, and no more than a half of all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.partners.outbound.delivery.leases import Due, Held

# Connections to one endpoint at the most.
_EACH = 8


@dataclass(eq=False)
class Run:
    """An endpoint that is being delivered to since `began` (monotonic), through so many connections.

    `is_held_back`: something of ours went wrong; it is to rest for a while.
    """

    held: Held
    connections: int
    began: float
    is_held_back: bool = False


class Places:
    """So many, of one worker."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._each = max(1, min(_EACH, count // 10))
        self._further = count // 2
        self._most = {False: max(1, count - max(1, count // 10)), True: max(1, count // 2)}

    def free(self, runs: Collection[Run], *, failing: bool) -> int:
        """How many more endpoints can be held, of those that are failing or of the others."""
        used = sum(run.connections for run in runs)
        alike = sum(run.connections for run in runs if run.held.is_failing == failing)
        return max(0, min(self._count - used, self._most[failing] - alike))

    def shared(self, held: Sequence[Held], runs: Collection[Run], began: float) -> list[Run]:
        """Each of these gets one, and those that can use more as many as are left, in equal parts, to a limit."""
        made = [Run(one, 1, began) for one in held]
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


def _parallel(messages: Sequence[Due]) -> int:
    """How many of them can be sent at the same time."""
    ordered = sum(one.is_ordered for one in messages)
    return max(1, len(messages) - ordered + min(1, ordered))
