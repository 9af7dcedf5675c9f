"""Dispatching: each mail's end is written down before its connection takes the next; trouble is waited out."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from app.kit.mail import sender
from app.kit.mail.message import Mail, Sender
from app.kit.mail.sender import ClaimedMail, MailSender, Outcome, Result
from app.kit.mail.smtp import SmtpTransport
from tests.support.smtp import SmtpServer


def mail(number: int) -> Mail:
    return Mail(f"person.{number}@example.org", "Hello", "Text", "<p>Text</p>", f"<{number}@example.org>", "en")


class Pile:
    """A source of so many letters, which remembers how they ended; what was not sent is claimed again."""

    name = "pile"

    def __init__(self, letters: Sequence[ClaimedMail], done: Callable[["Pile"], bool]) -> None:
        self._due = list(letters)
        self.ends: list[tuple[int, Outcome]] = []
        self.claims = 0
        self.finished = asyncio.Event()
        self._done = done

    async def claim(self, limit: int) -> Sequence[ClaimedMail]:
        self.claims += 1
        claimed, self._due = self._due[:limit], self._due[limit:]
        return claimed

    async def settle(self, settled: Sequence[Result]) -> Sequence[None]:
        for letter, end in settled:
            self.ends.append((letter.key, end))
            if end in {Outcome.LATER, Outcome.UNKNOWN}:
                self._due.append(letter)
        if self._done(self):
            self.finished.set()
        return [None] * len(settled)


async def run(pile: Pile, url: str, connections: int = 3) -> None:
    ending = asyncio.Event()
    post = SmtpTransport(url, Sender.parse("no-reply@example.org"), connections=connections)
    task = asyncio.create_task(MailSender(pile, post, connections).run(ending, 0.01))
    async with asyncio.timeout(20):
        await pile.finished.wait()
    ending.set()
    await task
    await post.close()


def sent(count: int) -> Callable[[Pile], bool]:
    return lambda pile: sum(end in {Outcome.SENT, Outcome.REFUSED} for _, end in pile.ends) == count


async def test_every_letter_is_sent_once_and_its_end_written_down() -> None:
    pile = Pile([ClaimedMail(number, mail(number)) for number in range(50)], sent(50))
    with SmtpServer() as mailbox:
        await run(pile, mailbox.url)
        assert set(mailbox.counts().values()) == {1}
    assert sorted(pile.ends) == [(number, Outcome.SENT) for number in range(50)]


async def test_a_letter_without_a_mail_is_let_go_and_a_refused_one_too() -> None:
    pile = Pile([ClaimedMail(0, None), ClaimedMail(1, mail(1)), ClaimedMail(2, mail(2))], sent(3))
    with SmtpServer() as mailbox:
        mailbox.answer("person.1@example.org", "550 nobody here")
        await run(pile, mailbox.url)
        assert mailbox.counts() == {"person.2@example.org": 1}
    assert dict(pile.ends) == {0: Outcome.REFUSED, 1: Outcome.REFUSED, 2: Outcome.SENT}


async def test_what_was_not_handed_over_and_what_may_have_been_are_told_apart() -> None:
    pile = Pile([ClaimedMail(1, mail(1)), ClaimedMail(2, mail(2))], sent(2))
    with SmtpServer() as mailbox:
        mailbox.answer("person.1@example.org", "451 later", times=1)
        mailbox.answer("person.2@example.org", "drop", times=1, at_data=True)
        await run(pile, mailbox.url)
    assert {end for end in pile.ends if end[1] is not Outcome.SENT} == {(1, Outcome.LATER), (2, Outcome.UNKNOWN)}


async def test_a_mail_server_that_is_gone_is_left_alone_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 0.00001)
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.0001)
    letters = [ClaimedMail(number, mail(number)) for number in range(100)]
    with SmtpServer() as mailbox:
        url = mailbox.url
    # Long enough for any doubling without a bound to overflow.
    pile = Pile(letters, lambda pile: pile.claims > 1100)
    await run(pile, url, connections=1)
    assert {end for _, end in pile.ends} == {Outcome.LATER}
    assert {key for key, _ in pile.ends} == set(range(100))


async def test_whoever_ends_gives_back_what_is_not_begun() -> None:
    letters = [ClaimedMail(number, mail(number)) for number in range(200)]
    pile = Pile(letters, lambda pile: len(pile.ends) >= 5)
    with SmtpServer() as mailbox:
        await run(pile, mailbox.url, connections=1)
        arrived = len(mailbox.mails)
    assert len(pile.ends) == 200
    assert sum(end is Outcome.SENT for _, end in pile.ends) == arrived < 200


def test_an_address_is_not_part_of_a_letters_looks() -> None:
    assert "person.1" not in repr(ClaimedMail(1, mail(1)))
