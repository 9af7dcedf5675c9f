"""The requests of one client address that are under way: so many at once, the others in the order in which they came.

Each may take milliseconds of the event loop, and an address may have hundreds of connections: who else asks meanwhile
would wait for all of them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable


class ClientRequests:
    """Whose turn it is. A place is passed on from one request to the next, so that no newcomer overtakes."""

    def __init__(self, most: int, when_idle: Callable[[], None]) -> None:
        """`most`: requests at once; `when_idle` is called when the last one has ended."""
        self._most = most
        self._when_idle = when_idle
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self.under_way = 0

    @property
    def are_waiting(self) -> bool:
        """Whether a request waits for its turn."""
        return bool(self._waiting)

    def enter(self) -> asyncio.Future[bool] | None:
        """None when the request may begin at once; else what to wait for: whether it may, or its client has left."""
        if self.under_way < self._most:
            self.under_way += 1
            return None
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        return turn

    def leave(self, turn: asyncio.Future[bool]) -> None:
        """Whoever waits for this turn has left; one that was given already is used, and ends as any other."""
        if turn in self._waiting:
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(False)

    def give_up(self, turn: asyncio.Future[bool]) -> None:
        """Whoever waits for this turn is stopped, and will not use it."""
        if turn.done() and not turn.cancelled() and turn.result():
            self.end()
        else:
            self.leave(turn)

    def end(self) -> None:
        """A request that had begun has ended, or answers as a stream from now on."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(True)
                return
        self.under_way -= 1
        if not self.under_way:
            self._when_idle()
