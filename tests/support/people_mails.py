"""Whoever brings people their mails, and what is in them."""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from app.kit.mail.message import Mail
from app.kit.mail.outcome import NOT_NEEDED, Outcome, SendResult
from app.kit.mail.sender import Result
from app.kit.mail.templates import MailTemplates
from app.people.mailing import PeopleMails

AMINA = "amina@example.org"
# Compiled once, as in one worker; they are the same for all tests.
TEMPLATES = MailTemplates()
_LINK = re.compile(r"https?://\S+")


def link_in(mail: Mail) -> str:
    """The first link of a mail."""
    found = _LINK.search(mail.text)
    assert found
    return found[0]


def token_in(mail: Mail) -> str:
    """The token of that link."""
    return parse_qs(urlsplit(link_in(mail)).query)["token"][0]


@dataclass
class Postman:
    """Brings the mails that are due, as the worker does; each ends as told."""

    source: PeopleMails
    brought: list[Mail] = field(default_factory=list)

    async def bring(self, end: Outcome = Outcome.SENT) -> list[Mail]:
        claimed = (await self.source.claim(100)).mails
        refused = SendResult(Outcome.REFUSED, NOT_NEEDED)
        await self.source.settle(
            [Result(one, *(SendResult(end) if one.mail else one.unsent or refused)) for one in claimed]
        )
        mails = [one.mail for one in claimed if one.mail]
        self.brought += mails
        return mails


@dataclass
class Asked:
    """What is left of asking for a link: the browser's binding, and the mail's token."""

    binding: str
    token: str
