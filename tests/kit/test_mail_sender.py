"""The mail sender: each mail's end is written down before its connection takes the next; trouble is waited out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.kit.mail import sender
from app.kit.mail.message import Mail, Sender
from app.kit.mail.outcome import Outcome, SendResult
from app.kit.mail.sender import Claim, ClaimedMail, MailSender, Result
from app.kit.mail.smtp import SmtpTransport
from tests.support.smtp import SmtpServer


def mail(number: int) -> Mail:
    return Mail(f"person.{number}@example.org", "Hello", "Text", "<p>Text</p>", f"<{number}@example.org>", "en")


def claimed(number: int, *, unsent: SendResult | None = None, is_wanted: bool = True) -> ClaimedMail:
    sendable = mail(number) if is_wanted and unsent is None else None
    return ClaimedMail(number, sendable, UUID(int=number), "confirm_signature", 1, unsent)


class Pile:
    """A source of so many mails, which remembers how they ended; what was not sent is claimed again."""

    name = "pile"

    def __init__(self, mails: Sequence[ClaimedMail], done: Callable[["Pile"], bool]) -> None:
        self._due = list(mails)
        self.ends: list[tuple[int, Outcome]] = []
        self.results: list[Result] = []
        self.claims = 0
        self.given_up: set[int] = set()
        self.finished = asyncio.Event()
        self._done = done

    async def claim(self, limit: int) -> Claim:
        self.claims += 1
        claimed, self._due = self._due[:limit], self._due[limit:]
        return Claim(claimed, len(claimed))

    async def settle(self, settled: Sequence[Result]) -> Sequence[bool]:
        self.results += settled
        for result in settled:
            self.ends.append((result.claimed.key, result.outcome))
            if result.outcome in {Outcome.LATER, Outcome.UNKNOWN}:
                self._due.append(result.claimed)
        if self._done(self):
            self.finished.set()
        return [one.claimed.key in self.given_up for one in settled]


async def run(
    pile: Pile,
    url: str,
    connections: int = 3,
    transport: type[SmtpTransport] = SmtpTransport,
    seconds: float = 0.01,
) -> None:
    ending = asyncio.Event()
    post = transport(url, Sender.parse("no-reply@example.org"), connections=connections)
    task = asyncio.create_task(MailSender(pile, post, connections).run(ending, seconds))
    async with asyncio.timeout(60):
        await pile.finished.wait()
    ending.set()
    await task
    await post.close()


def sent(count: int) -> Callable[[Pile], bool]:
    return lambda pile: sum(end in {Outcome.SENT, Outcome.REFUSED} for _, end in pile.ends) == count


async def test_every_letter_is_sent_once_and_its_end_written_down() -> None:
    pile = Pile([claimed(number) for number in range(50)], sent(50))
    with SmtpServer() as mailbox:
        await run(pile, mailbox.url)
        assert set(mailbox.counts().values()) == {1}
    assert sorted(pile.ends) == [(number, Outcome.SENT) for number in range(50)]


async def test_a_mail_without_a_mail_is_let_go_and_a_refused_one_too() -> None:
    pile = Pile([claimed(0, is_wanted=False), claimed(1), claimed(2)], sent(3))
    with SmtpServer() as mailbox:
        mailbox.answer("person.1@example.org", "550 nobody here")
        await run(pile, mailbox.url)
        assert mailbox.counts() == {"person.2@example.org": 1}
    assert dict(pile.ends) == {0: Outcome.REFUSED, 1: Outcome.REFUSED, 2: Outcome.SENT}


async def test_what_was_not_handed_over_and_what_may_have_been_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 0.001)
    pile = Pile([claimed(1), claimed(2)], sent(2))
    with SmtpServer() as mailbox:
        mailbox.answer("person.1@example.org", "451 later", times=1)
        mailbox.answer("person.2@example.org", "drop", times=1, at_data=True)
        await run(pile, mailbox.url)
    assert {end for end in pile.ends if end[1] is not Outcome.SENT} == {(1, Outcome.LATER), (2, Outcome.UNKNOWN)}


@pytest.mark.slow
async def test_a_mail_server_that_is_gone_is_left_alone_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 0.00001)
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.0001)
    mails = [claimed(number) for number in range(100)]
    with SmtpServer() as mailbox:
        url = mailbox.url
    # Long enough for any doubling without a bound to overflow.
    pile = Pile(mails, lambda pile: pile.claims > 1100)
    await run(pile, url, connections=1)
    assert {end for _, end in pile.ends} == {Outcome.LATER}
    assert {key for key, _ in pile.ends} == set(range(100))


async def test_whoever_ends_gives_back_what_is_not_begun() -> None:
    mails = [claimed(number) for number in range(200)]
    pile = Pile(mails, lambda pile: len(pile.ends) >= 5)
    with SmtpServer() as mailbox:
        await run(pile, mailbox.url, connections=1)
        arrived = len(mailbox.mails)
    assert len(pile.ends) == 200
    assert sum(end is Outcome.SENT for _, end in pile.ends) == arrived < 200


async def test_every_result_is_logged_once_and_counted_by_its_reason() -> None:
    unreadable = SendResult(Outcome.UNREADABLE, "unreadable")
    pile = Pile(
        [claimed(0, unsent=unreadable), claimed(1), claimed(2), claimed(3, is_wanted=False)],
        lambda pile: len(pile.ends) == 4,
    )
    before = counted("pile", "smtp-refused-recipient-550"), counted("pile", "unreadable")
    with SmtpServer() as mailbox, capture_logs() as logs:
        mailbox.answer("person.1@example.org", "550 person.1@example.org is nobody")
        await run(pile, mailbox.url)
    told = {log["id"]: (log["event"], log["end"], log.get("reason")) for log in logs if log["event"].startswith("mail")}
    assert told == {
        str(UUID(int=0)): ("mail failed", "unreadable", "unreadable"),
        str(UUID(int=1)): ("mail failed", "refused", "smtp-refused-recipient-550"),
        str(UUID(int=2)): ("mail sent", "sent", None),
        str(UUID(int=3)): ("mail not needed", "refused", "not-needed"),
    }
    assert len(logs) == 4
    assert {(log["source"], log["kind"], log["attempt"]) for log in logs} == {("pile", "confirm_signature", 1)}
    assert all(0 <= log["seconds"] < 20 for log in logs)
    assert "example.org" not in repr(logs)
    after = counted("pile", "smtp-refused-recipient-550"), counted("pile", "unreadable")
    assert after == (before[0] + 1, before[1] + 1)


def counted(source: str, reason: str) -> float:
    return REGISTRY.get_sample_value("multitude_mail_failures_total", {"source": source, "reason": reason}) or 0.0


async def test_what_cannot_be_written_holds_up_nothing_that_can() -> None:
    """More of them than the failures after which a connection is given a rest."""
    unreadable = SendResult(Outcome.UNREADABLE, "unreadable")
    mails = [*(claimed(number, unsent=unreadable) for number in range(50)), *(claimed(50 + n) for n in range(5))]
    pile = Pile(mails, lambda pile: len(pile.ends) >= len(mails))
    with SmtpServer() as mailbox:
        await run(pile, mailbox.url, connections=2)
        assert len(mailbox.mails) == 5
    assert sum(end is Outcome.UNREADABLE for _, end in pile.ends) == 50
    assert sum(end is Outcome.SENT for _, end in pile.ends) == 5
    assert pile.claims <= 2


async def test_what_cannot_be_begun_in_half_its_lease_is_given_back_without_a_trace() -> None:
    mails = [claimed(0)._replace(lease=0.0), claimed(1)]
    pile = Pile(mails, lambda pile: {key for key, _ in pile.ends} == {0, 1})
    with SmtpServer() as mailbox, capture_logs() as logs:
        await run(pile, mailbox.url, connections=1)
        assert set(mailbox.counts()) == {"person.1@example.org"}
    assert {(one.claimed.key, one.outcome, one.reason) for one in pile.results} == {
        (0, Outcome.LATER, None),
        (1, Outcome.SENT, None),
    }
    assert [log["event"] for log in logs] == ["mail sent"]


async def test_a_mail_that_waited_for_a_connection_for_too_long_is_not_begun() -> None:
    with SmtpServer() as mailbox:
        post = SmtpTransport(mailbox.url, Sender.parse("no-reply@example.org"), connections=1)
        assert await post.send(mail(1), time.monotonic()) == SendResult(Outcome.LATER)
        assert await post.send(mail(2), time.monotonic() + 60) == SendResult(Outcome.SENT)
        assert set(mailbox.counts()) == {"person.2@example.org"}
        await post.close()


async def test_what_cannot_be_written_is_traced_as_well_when_the_connections_are_given_a_rest() -> None:
    unreadable = SendResult(Outcome.UNREADABLE, "template-broken")
    mails = [*(claimed(n) for n in range(4)), claimed(4, unsent=unreadable), claimed(5, is_wanted=False)]
    pile = Pile(mails, lambda pile: len(pile.ends) >= len(mails))
    before = counted("pile", "template-broken")
    with SmtpServer() as mailbox, capture_logs() as logs:
        for number in range(4):
            mailbox.answer(f"person.{number}@example.org", "451 later")
        await run(pile, mailbox.url, connections=1)
    ends = {log["id"]: (log["event"], log["end"]) for log in logs if log["id"] > str(UUID(int=3))}
    assert ends == {
        str(UUID(int=4)): ("mail failed", "unreadable"),
        str(UUID(int=5)): ("mail not needed", "refused"),
    }
    assert counted("pile", "template-broken") == before + 1
    assert pile.ends[3:6] == [(3, Outcome.LATER), (4, Outcome.UNREADABLE), (5, Outcome.REFUSED)]


async def test_when_a_claim_hands_over_nothing_but_took_something_the_next_is_made_at_once() -> None:
    class Postponing(Pile):
        async def claim(self, limit: int) -> Claim:
            claim = await super().claim(limit)
            return claim if self.claims > 3 else Claim([], limit)

    pile = Postponing([claimed(number) for number in range(4 * sender.CLAIM)], sent(sender.CLAIM))
    with SmtpServer() as mailbox:
        # It would wait for a minute if it took nothing.
        await run(pile, mailbox.url, seconds=60.0)
    assert pile.claims >= 4


@pytest.mark.parametrize(("lease", "reason"), [(1200.0, "smtp-try-later-451"), (0.0, "expired")])
async def test_a_mail_that_its_source_gives_up_is_logged_as_given_up(lease: float, reason: str) -> None:
    """After an attempt, or when it is given back."""
    pile = Pile([claimed(1)._replace(lease=lease)], lambda pile: bool(pile.ends))
    pile.given_up = {1}
    with SmtpServer() as mailbox, capture_logs() as logs:
        mailbox.answer("person.1@example.org", "451 later")
        await run(pile, mailbox.url, connections=1)
    told = {(log["event"], log["end"], log["reason"]) for log in logs}
    assert told == {("mail given up", "given-up", reason)}


class BrokenTransport(SmtpTransport):
    """Raises for one mail what nobody has thought of."""

    async def send(self, mail: Mail, begin_before: float = inf) -> SendResult:
        if mail.message_id == "<1@example.org>":
            raise ZeroDivisionError
        return await super().send(mail, begin_before)


async def test_a_transport_that_raises_costs_one_mail_its_sending_and_no_other() -> None:
    pile = Pile([claimed(number) for number in range(5)], sent(4))
    with SmtpServer() as mailbox:
        await run(pile, mailbox.url, connections=1, transport=BrokenTransport)
        assert len(mailbox.mails) == 4
    assert {(one.claimed.key, one.reason) for one in pile.results if one.reason} == {(1, "unwritable")}
    assert {key for key, end in pile.ends if end is Outcome.UNKNOWN} == {1}


def test_an_address_is_not_part_of_a_mails_looks() -> None:
    assert "person.1" not in repr(claimed(1))
