"""Whoever brings people their mails, and what is in them."""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from app.kit.mail.message import Mail
from app.kit.mail.sender import Outcome, Result
from app.people.mailing import PeopleMails

AMINA = "amina@example.org"
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
        letters = await self.source.claim(100)
        await self.source.settle([Result(letter, end if letter.mail else Outcome.REFUSED) for letter in letters])
        mails = [letter.mail for letter in letters if letter.mail]
        self.brought += mails
        return mails


@dataclass
class Asked:
    """What is left of asking for a link: the browser's binding, and the mail's token."""

    binding: str
    token: str
