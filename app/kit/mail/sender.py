"""The mail sender: it claims due mails under a lease, sends them over a few connections, and records each outcome.

Claiming is one transaction, sending happens in none, recording is another. Each connection sends one mail at a time and
waits until its outcome is recorded before it takes the next. So a crash leaves at most one mail a connection of which
nobody knows whether it was sent, which SMTP itself cannot exclude either. The records of all connections share their
commits (`kit/database/group_commit.py`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from app.kit import metrics
from app.kit.database.group_commit import GroupCommit
from app.kit.logs import failure_of, log
from app.kit.mail.message import Mail, MailTransport
from app.kit.mail.outcome import EXPIRED, NOT_NEEDED, UNWRITABLE, Outcome, SendResult
from app.kit.waiting import wait_for_event

# Mails claimed at once.
CLAIM = 500
# Seconds of a lease, unless the claimed mail has another. What cannot be begun in its first half is given back. One
# mail takes less than the other half, timeouts included: so nobody else sends what is still being sent here.
LEASE_SECONDS = 1200
# No mail is sent more often than this, whatever happens.
MOST_SENDINGS = 5
# Seconds. A mail server that takes nothing is asked less and less often.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_MOST_DOUBLINGS = 6
# After so many failures in a row a connection is not used any more in this round: the mails left are given back.
_FAILURES = 3
_PATIENCE = 30.0
_RETRIED = {Outcome.LATER, Outcome.UNKNOWN}


class ClaimedMail(NamedTuple):
    """A due mail under this worker's lease. `key` is what its source settles it by.

    `id`, `kind` and `attempt` name it in logs. Without a `mail` nothing is handed over, and `unsent` says why. `facts`
    are more words for the log. `has_failed`: a failure of an earlier attempt is on record. `lease`: its seconds, from
    the claim on.
    """

    key: Any
    mail: Mail | None
    id: UUID
    kind: str
    attempt: int
    unsent: SendResult | None = None
    facts: Mapping[str, Any] = {}
    has_failed: bool = False
    lease: float = LEASE_SECONDS


class Claim(NamedTuple):
    """The claimed mails, and how many rows were taken for them: some may have been postponed or given up at once."""

    mails: Sequence[ClaimedMail]
    taken_count: int


class Result(NamedTuple):
    """What became of a claimed mail, and why it was not sent."""

    claimed: ClaimedMail
    outcome: Outcome
    reason: str | None = None
    seconds: float = 0.0

    @property
    def is_given_back(self) -> bool:
        """Whether it was given back before it was begun: that is no attempt, and no failure."""
        return self.outcome is Outcome.LATER and self.reason is None


class MailSource(Protocol):
    """Where mails come from."""

    name: str

    async def claim(self, limit: int) -> Claim:
        """Take up to so many due mails, each for its lease, counting the sending; committed on return."""
        ...

    async def settle(self, results: Sequence[Result]) -> Sequence[bool]:
        """Record these results in one transaction, harmless to repeat; of each, whether its mail was given up."""
        ...


class MailSender:
    """Sends the mails of one source, through several connections of one transport."""

    def __init__(self, source: MailSource, transport: MailTransport, connections: int) -> None:
        self._source = source
        self._transport = transport
        self._connections = connections
        self._failing = 0
        self._settling: GroupCommit[Result, bool] = GroupCommit(
            self._settle, queue_limit=connections, batch_limit=connections, retry_timeout=_PATIENCE
        )

    async def run(self, ending: asyncio.Event, seconds: float) -> None:
        """Send until `ending` is set, looking for new mails every so many seconds."""
        self._settling.start()
        try:
            while not ending.is_set():
                pause = await self._round(ending, seconds)
                await wait_for_event(ending, pause)
        finally:
            await self._settling.drain()

    async def _round(self, ending: asyncio.Event, seconds: float) -> float:
        """Send what is due; the seconds to wait before the next look."""
        # Before the claim, so that we never take a lease for longer than it is.
        claimed_at = time.monotonic()
        try:
            claim = await self._source.claim(CLAIM)
            settled = await self._send(deque(claim.mails), claimed_at, ending)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("dispatching failed", source=self._source.name, **failure_of(error))
            return seconds
        if claim.mails and not settled:
            self._failing += 1
            pause: float = min(_FIRST_PAUSE * 2 ** min(self._failing, _MOST_DOUBLINGS), _LONGEST_PAUSE)
            return pause
        self._failing = 0
        # It may have taken rows and hand over no mail. Only when it took no row is nothing left.
        return 0.0 if claim.taken_count else seconds

    async def _send(self, mails: deque[ClaimedMail], claimed_at: float, ending: asyncio.Event) -> int:
        """Send them through all connections; how many were settled for good."""
        workers = (self._worker(mails, claimed_at, ending) for _ in range(self._connections))
        # We wait for all of them, whatever happens to one: none is left behind with a mail in hand.
        ends = await asyncio.gather(*workers, return_exceptions=True)
        if mails:
            await self._settle([_given_back(claimed) if claimed.mail else _unsent(claimed) for claimed in mails])
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return sum(end for end in ends if isinstance(end, int))

    async def _worker(self, mails: deque[ClaimedMail], claimed_at: float, ending: asyncio.Event) -> int:
        """Send one mail after the other over one connection; how many were settled for good."""
        settled = failures = 0
        while mails and failures < _FAILURES and not ending.is_set():
            claimed = mails.popleft()
            result = await self._deliver(claimed, claimed_at + claimed.lease / 2)
            await self._settling.submit(result)
            # What never reached the mail server says nothing about it.
            if result.is_given_back:
                continue
            if claimed.mail is None:
                settled += 1
            elif result.outcome in _RETRIED:
                failures += 1
            else:
                settled, failures = settled + 1, 0
        return settled

    async def _settle(self, results: Sequence[Result]) -> Sequence[bool]:
        """Record these results, then trace them: all of a batch at once, which costs less than one by one."""
        given_up = await self._source.settle(results)
        for result, is_given_up in zip(results, given_up, strict=True):
            if not result.is_given_back:
                _count(self._source.name, result)
            if is_given_up or not result.is_given_back:
                log_result(self._source.name, result, is_given_up=is_given_up)
        return given_up

    async def _deliver(self, claimed: ClaimedMail, begin_before: float) -> Result:
        if claimed.mail is None:
            return _unsent(claimed)
        if time.monotonic() >= begin_before:
            return _given_back(claimed)
        began = time.perf_counter()
        try:
            sent = await self._transport.send(claimed.mail, begin_before)
        except Exception as error:  # noqa: BLE001 - one mail must not cost the others their sending
            facts, sent = failure_of(error), SendResult(Outcome.UNKNOWN, UNWRITABLE)
            claimed = claimed._replace(facts=facts)
        return Result(claimed, *sent, time.perf_counter() - began)


def _unsent(claimed: ClaimedMail) -> Result:
    """The result of a claimed mail without a mail."""
    return Result(claimed, *(claimed.unsent or SendResult(Outcome.REFUSED, NOT_NEEDED)))


def _given_back(claimed: ClaimedMail) -> Result:
    return Result(claimed, Outcome.LATER)


def _count(source: str, result: Result) -> None:
    metrics.mails.labels(result.outcome.value).inc()
    if result.outcome is not Outcome.SENT and result.reason != NOT_NEEDED:
        metrics.mail_failures.labels(source, result.reason).inc()


def log_result(source: str, result: Result, *, is_given_up: bool = False) -> None:
    """Write one line about a result; `is_given_up`: it is not tried again. No personal data: ids and words of ours."""
    claimed, outcome, reason, seconds = result
    if is_given_up:
        # Without a reason it was given back, and is too old to be due again.
        reason = reason or EXPIRED
        write, event, end = log.warning, "mail given up", "given-up"
    elif outcome is Outcome.SENT:
        write, event, end = log.info, "mail sent", outcome.value
    elif reason == NOT_NEEDED:
        write, event, end = log.info, "mail not needed", outcome.value
    else:
        write, event, end = log.warning, "mail failed", outcome.value
    facts = {
        "source": source,
        "kind": claimed.kind,
        "id": str(claimed.id),
        "attempt": claimed.attempt,
        "seconds": round(seconds, 4),
        "end": end,
        **({"reason": reason} if reason else {}),
        **claimed.facts,
    }
    write(event, **facts)
