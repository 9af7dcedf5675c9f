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
from app.kit.mail.outcome import NOT_NEEDED, UNWRITABLE, Outcome, SendResult
from app.kit.waiting import wait_for_event

# Mails claimed at once.
CLAIM = 500
# Seconds of a claim's lease. What has not been begun in its first half is given back. One mail takes less than the
# other half, timeouts included: so nobody else sends what is still being sent here.
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
    are more words for the log. `has_failed`: a failure of an earlier attempt is on record.
    """

    key: Any
    mail: Mail | None
    id: UUID
    kind: str
    attempt: int
    unsent: SendResult | None = None
    facts: Mapping[str, Any] = {}
    has_failed: bool = False


class Result(NamedTuple):
    """What became of a claimed mail. No `reason` and not sent: it was given back before it was begun."""

    claimed: ClaimedMail
    outcome: Outcome
    reason: str | None = None
    seconds: float = 0.0


class MailSource(Protocol):
    """Where mails come from."""

    name: str

    async def claim(self, limit: int) -> Sequence[ClaimedMail]:
        """Take up to so many due mails for `LEASE_SECONDS`, counting the sending; committed on return."""
        ...

    async def settle(self, results: Sequence[Result]) -> Sequence[None]:
        """Record these results in one transaction; harmless to repeat."""
        ...


class MailSender:
    """Sends the mails of one source, through several connections of one transport."""

    def __init__(self, source: MailSource, transport: MailTransport, connections: int) -> None:
        self._source = source
        self._transport = transport
        self._connections = connections
        self._failing = 0
        self._settling: GroupCommit[Result, None] = GroupCommit(
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
        try:
            claimed = await self._source.claim(CLAIM)
            settled = await self._send(deque(claimed), ending)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("dispatching failed", source=self._source.name, **failure_of(error))
            return seconds
        if claimed and not settled:
            self._failing += 1
            pause: float = min(_FIRST_PAUSE * 2 ** min(self._failing, _MOST_DOUBLINGS), _LONGEST_PAUSE)
            return pause
        self._failing = 0
        # A source may claim more than it hands over. Only when it hands over nothing is nothing left.
        return 0.0 if claimed else seconds

    async def _send(self, mails: deque[ClaimedMail], ending: asyncio.Event) -> int:
        """Send them through all connections; how many were settled for good."""
        until = time.monotonic() + LEASE_SECONDS / 2
        workers = (self._worker(mails, ending, until) for _ in range(self._connections))
        # We wait for all of them, whatever happens to one: none is left behind with a mail in hand.
        ends = await asyncio.gather(*workers, return_exceptions=True)
        if mails:
            await self._source.settle([_given_back(claimed) for claimed in mails])
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return sum(end for end in ends if isinstance(end, int))

    async def _worker(self, mails: deque[ClaimedMail], ending: asyncio.Event, until: float) -> int:
        """Send one mail after the other over one connection; how many were settled for good."""
        settled = failures = 0
        while mails and failures < _FAILURES and not ending.is_set() and time.monotonic() < until:
            result = await self._deliver(mails.popleft())
            await self._settling.submit(result)
            if result.claimed.mail is None:
                # It never reached the mail server, so it says nothing about it.
                settled += 1
            elif result.outcome in _RETRIED:
                failures += 1
            else:
                settled, failures = settled + 1, 0
        return settled

    async def _settle(self, results: Sequence[Result]) -> Sequence[None]:
        """Record these results, then trace them: all of a batch at once, which costs less than one by one."""
        settled = await self._source.settle(results)
        for result in results:
            metrics.mails.labels(result.outcome.value).inc()
            _trace(self._source.name, result)
        return settled

    async def _deliver(self, claimed: ClaimedMail) -> Result:
        if claimed.mail is None:
            return Result(claimed, *(claimed.unsent or SendResult(Outcome.REFUSED, NOT_NEEDED)))
        began = time.perf_counter()
        try:
            sent = await self._transport.send(claimed.mail)
        except Exception as error:  # noqa: BLE001 - one mail must not cost the others their sending
            facts, sent = failure_of(error), SendResult(Outcome.UNKNOWN, UNWRITABLE)
            claimed = claimed._replace(facts=facts)
        return Result(claimed, *sent, time.perf_counter() - began)


def _given_back(claimed: ClaimedMail) -> Result:
    return Result(claimed, *(claimed.unsent or SendResult(Outcome.LATER)))


def _trace(source: str, result: Result) -> None:
    """Log and count one result. No personal data: an id of ours, and words of ours."""
    claimed, outcome, reason, seconds = result
    facts = {
        "source": source,
        "kind": claimed.kind,
        "id": str(claimed.id),
        "attempt": claimed.attempt,
        "seconds": round(seconds, 4),
        "end": outcome.value,
    }
    if outcome is Outcome.SENT:
        log.info("mail sent", **facts)
    elif reason == NOT_NEEDED:
        log.info("mail not needed", **facts, reason=reason)
    else:
        metrics.mail_failures.labels(source, reason).inc()
        log.warning("mail failed", **facts, reason=reason, **claimed.facts)


async def check_transport(transport: MailTransport, ending: asyncio.Event) -> None:
    """When the worker starts, log and count it if no mail could be sent: nobody should first learn it by a mail."""
    check, ended = asyncio.create_task(_reason_against(transport)), asyncio.create_task(ending.wait())
    await asyncio.wait([check, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in (check, ended):
        task.cancel()
    await asyncio.gather(check, ended, return_exceptions=True)
    if check.cancelled() or check.result() is None:
        return
    metrics.mail_failures.labels("check", check.result()).inc()
    log.warning("mail failed", source="check", end=Outcome.LATER.value, reason=check.result())


async def _reason_against(transport: MailTransport) -> str | None:
    try:
        return await transport.check()
    except Exception as error:  # noqa: BLE001 - a look must not end the worker
        log.warning("mail server cannot be checked", **failure_of(error))
        return None
