"""Dispatching mail: claimed in a transaction, sent without one, recorded in a transaction.

Each connection sends one mail at a time and waits until its end is recorded before it takes the next. So whatever
happens, at most one mail a connection has been handed over without our knowing: what SMTP itself can repeat.
The records of all connections share their commits (`kit/database/group_commit.py`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from app.kit import metrics
from app.kit.database.group_commit import GroupCommit
from app.kit.logs import failure_of, log
from app.kit.mail.message import Delivery, Mail, MailDeliveryError, MailTransport

# Claimed at once.
CLAIM = 500
# Seconds a claim holds. What has not been begun after the first half of it is given back, and one mail takes less than
# the other half, timeouts included: so nobody else sends what is still being sent here.
LEASE_SECONDS = 1200
# No mail is sent more often than this, whatever happens.
MOST_SENDINGS = 5
# Seconds. A post office out of order is not asked again at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_MOST_DOUBLINGS = 6
# So many failures one after the other on a connection: the rest is left for the next round.
_FAILURES = 3
_PATIENCE = 30.0


class ClaimedMail(NamedTuple):
    """A claimed mail and what its source knows it by; no mail when there is nothing to send after all."""

    key: Any
    mail: Mail | None


class Outcome(Enum):
    """How the sending of a letter ended."""

    SENT = "sent"
    REFUSED = "refused"
    # Not handed over: it does not count as a sending.
    LATER = "later"
    # The connection was lost while it was handed over: it may have been sent.
    UNKNOWN = "unknown"


class Result(NamedTuple):
    """A letter and its end."""

    letter: ClaimedMail
    end: Outcome


class MailSource(Protocol):
    """Where mails come from."""

    name: str

    async def claim(self, limit: int) -> Sequence[ClaimedMail]:
        """Take up to so many due mails for `LEASE_SECONDS`, counting the sending; committed on return."""
        ...

    async def settle(self, settled: Sequence[Result]) -> Sequence[None]:
        """Write down how these ended, in one transaction; harmless to repeat."""
        ...


class MailSender:
    """Sends what one source has, through several connections of one post."""

    def __init__(self, source: MailSource, post: MailTransport, connections: int) -> None:
        self._source = source
        self._post = post
        self._connections = connections
        self._failing = 0
        self._settling: GroupCommit[Result, None] = GroupCommit(
            source.settle, queue_limit=connections, batch_limit=connections, patience=_PATIENCE
        )

    async def run(self, ending: asyncio.Event, seconds: float) -> None:
        """Send until `ending` is set, looking for new mails every so many seconds."""
        self._settling.start()
        try:
            while not ending.is_set():
                pause = await self._round(ending, seconds)
                await _wait(ending, pause)
        finally:
            await self._settling.drain()

    async def _round(self, ending: asyncio.Event, seconds: float) -> float:
        """Send what is due; the seconds to wait before the next look."""
        try:
            claimed = await self._source.claim(CLAIM)
            sent = await self._send(deque(claimed), ending)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("dispatching failed", source=self._source.name, **failure_of(error))
            return seconds
        if claimed and not sent:
            self._failing += 1
            pause: float = min(_FIRST_PAUSE * 2 ** min(self._failing, _MOST_DOUBLINGS), _LONGEST_PAUSE)
            return pause
        self._failing = 0
        # A source may claim more than it hands over: that there is nothing left is known when there was nothing.
        return 0.0 if claimed else seconds

    async def _send(self, letters: deque[ClaimedMail], ending: asyncio.Event) -> int:
        """Send them through all connections; how many were settled for good."""
        until = time.monotonic() + LEASE_SECONDS / 2
        carried = (self._carry(letters, ending, until) for _ in range(self._connections))
        # All of them to their end, whatever happens to one: no connection is left behind with a mail in hand.
        ends = await asyncio.gather(*carried, return_exceptions=True)
        if letters:
            await self._source.settle([Result(letter, Outcome.LATER) for letter in letters])
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return sum(end for end in ends if isinstance(end, int))

    async def _carry(self, letters: deque[ClaimedMail], ending: asyncio.Event, until: float) -> int:
        settled = failed = 0
        while letters and failed < _FAILURES and not ending.is_set() and time.monotonic() < until:
            letter = letters.popleft()
            end = await self._deliver(letter)
            await self._settling.add(Result(letter, end))
            metrics.mails.labels(end.value).inc()
            good = end in {Outcome.SENT, Outcome.REFUSED}
            settled, failed = settled + good, 0 if good else failed + 1
        return settled

    async def _deliver(self, letter: ClaimedMail) -> Outcome:
        if letter.mail is None:
            return Outcome.REFUSED
        try:
            delivery = await self._post.send(letter.mail)
        except MailDeliveryError as error:
            return Outcome.UNKNOWN if error.maybe_sent else Outcome.LATER
        return Outcome.SENT if delivery is Delivery.SENT else Outcome.REFUSED


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return
