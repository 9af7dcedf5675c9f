"""A mail message (RFC 5322), who it is from, and what a mail transport is.

A mail goes to one person. Its `message_id` is given by whoever sends it and stays the same when it is sent again, so
that a mailbox that got it twice can show it once. Nothing a mail says about its recipient is ever part of an error.
"""

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from functools import cached_property
from hashlib import sha256
from ipaddress import ip_address
from math import inf
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from email_validator import EmailNotValidError, validate_email

from app.kit.mail.outcome import SendResult

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+>")
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# An address that is safe as it stands: nothing in it means anything to a header or an SMTP command. A host of the
# operator's own (`localhost`, `mail.internal`) is as good as a public one.
_PLAIN = re.compile(rf"(?=.{{3,254}}$)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
# Written between angle brackets in a header that is a comma-separated list (RFC 2369, section 2).
_LINK = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~%]+")
# Most characters of a header that is not folded: a line has 998 at the most (RFC 5322, section 2.1.1).
_MOST = 900
_BREAK = re.compile(rb"\r\n|\r|\n")
# Octets per letter: beyond, quoted-printable takes more room than base64, and helps nobody to read it as it stands.
_QUOTED_AT_MOST = 1.2
_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
_ROUTE_FORM = "must look like smtp://user:password@host:25, smtps:// or smtp+starttls://"


class MailInvalid(ValueError):  # noqa: N818 - it says what is wrong, as the house's other words do
    """This can never be sent as a mail; the message says which part is wrong and never quotes it."""


@dataclass(frozen=True)
class Mail:
    """One mail to one recipient; MailInvalid when a part of it cannot stand in a mail.

    `recipient` is a bare address, `message_id` has its angle brackets. With an `unsubscribe_url` the mail offers
    to be unsubscribed from with one click (RFC 8058): a POST to that address, without a question.
    """

    recipient: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)
    message_id: str
    locale: str
    unsubscribe_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _insist(self.envelope_recipient, "recipient")
        _insist(_is_text(self.text) and _is_text(self.html), "text")
        _insist(not _CONTROL.search(self.subject), "subject")
        _insist(_MESSAGE_ID.fullmatch(self.message_id) and len(self.message_id) <= _MOST, "message id")
        _insist(_LOCALE.fullmatch(self.locale) and len(self.locale) <= _MOST, "locale")
        link = self.unsubscribe_url
        _insist(link is None or (_LINK.fullmatch(link) and len(link) <= _MOST), "unsubscribe link")

    @cached_property
    def envelope_recipient(self) -> str:
        """The recipient with its domain in ASCII, as servers name it."""
        return _ascii_form(self.recipient)

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can take it: the part before the @ is not ASCII."""
        return not self.recipient.rpartition("@")[0].isascii()

    def as_bytes(self, sender: "Sender", at: datetime) -> bytes:
        """The message as it goes over the wire: text and HTML alternatives, lines ending in CRLF.

        Written by hand, which took 0.06 ms where the standard library took 1.7. Bodies are 7-bit, so that no
        server on the way has a reason to rewrite them and thereby break a signature.
        """
        # Neither encoding of a body can contain `=_`, so that a boundary cannot either.
        boundary = f"=_{sha256(self.message_id.encode()).hexdigest()[:24]}"
        head = [*self._headers(sender, at), f'Content-Type: multipart/alternative; boundary="{boundary}"']
        parts = [_part("plain", self.text), _part("html", self.html)]
        body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
        return b"%b\r\n\r\n%b--%b--\r\n" % ("\r\n".join(head).encode(), body, boundary.encode())

    def _headers(self, sender: "Sender", at: datetime) -> Iterator[str]:
        yield f"From: {sender.header}"
        yield f"To: {self.envelope_recipient}"
        yield f"Subject: {_words(self.subject, 'Subject')}"
        yield f"Date: {format_datetime(at)}"
        yield f"Message-ID: {self.message_id}"
        # Nobody's out-of-office notice should answer (RFC 3834).
        yield "Auto-Submitted: auto-generated"
        yield f"Content-Language: {self.locale}"
        if self.unsubscribe_url:
            # Never folded: the standard library would break a long link into encoded words, which no client reads.
            yield f"List-Unsubscribe: <{self.unsubscribe_url}>"
            yield "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
        yield "MIME-Version: 1.0"


def _words(text: str, header: str) -> str:
    """Free text in a header, folded; encoded (RFC 2047) unless it is plain ASCII that cannot be taken for encoded."""
    plain = text.isascii() and "=?" not in text
    return Header(text, "us-ascii" if plain else "utf-8", header_name=header).encode(linesep="\r\n")


def _part(kind: str, content: str) -> bytes:
    """One alternative with its headers: quoted-printable, or base64 where most letters would have to be quoted."""
    # With a break at its end, for that is where the encoder looks how lines are to be broken.
    octets = _BREAK.sub(b"\r\n", content.rstrip().encode() + b"\n")
    if len(octets) > _QUOTED_AT_MOST * len(content):
        encoding, written = b"base64", encodebytes(octets).replace(b"\n", b"\r\n")
    else:
        encoding, written = b"quoted-printable", b2a_qp(octets)
    return b'Content-Type: text/%b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n%b' % (
        kind.encode(),
        encoding,
        written,
    )


def _insist(holds: object, part: str) -> None:
    if not holds:
        raise MailInvalid(f"the {part} cannot stand in a mail")


def _is_text(value: str) -> bool:
    """Whether it can be written in UTF-8: half a character cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ascii_form(address: str) -> str:
    """An address with its domain in ASCII (IDNA); "" when it is not one bare address."""
    if _PLAIN.fullmatch(address):
        return address
    try:
        checked = validate_email(address, strict=True, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        return ""
    return f"{checked.local_part}@{checked.ascii_domain}"


@dataclass(frozen=True)
class Sender:
    """Who mails are from: the bare address servers see, and what stands in From."""

    address: str
    header: str

    @classmethod
    def parse(cls, text: str) -> "Sender":
        """From `Name <address>` or a bare address; MailInvalid when it is neither, or not ASCII before the @."""
        _insist(not _CONTROL.search(text), "sender")
        header: Any = SMTP.header_factory("From", text)
        _insist(len(header.addresses) == 1 and not header.defects, "sender")
        name, address = header.addresses[0].display_name, _ascii_form(header.addresses[0].addr_spec)
        _insist(address and address.isascii(), "sender")
        shown = formataddr((name, address)) if name.isascii() else f"{_words(name, 'From')} <{address}>"
        return cls(address, shown)

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


@dataclass(frozen=True)
class SmtpUrl:
    """Where mails are handed over, read from a URL: `smtp`, `smtps` or `smtp+starttls`; ValueError otherwise.

    `smtp` encrypts whenever the server offers it, and must when a password is sent to another machine.
    """

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    use_tls: bool
    start_tls: bool | None

    @classmethod
    def parse(cls, url: str) -> "SmtpUrl":
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            # Their messages quote the URL, which may hold a password.
            raise ValueError(_ROUTE_FORM) from None
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(_ROUTE_FORM)
        return cls(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            use_tls=parts.scheme == "smtps",
            start_tls=_start_tls(parts),
        )


def _start_tls(parts: SplitResult) -> bool | None:
    """True: insist; None: when offered; False: the connection is encrypted from its start."""
    if parts.scheme == "smtps":
        return False
    exposes = parts.username is not None and not _is_loopback(parts.hostname or "")
    return True if parts.scheme == "smtp+starttls" or exposes else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class MailTransport(Protocol):
    """A way to send mails; many may be on their way at once."""

    async def send(self, mail: Mail, begin_before: float = inf) -> SendResult:
        """Hand over one mail. It does not raise: whatever goes wrong is the result's reason.

        If it has to wait until `begin_before` (of `time.monotonic`), it is not begun: `LATER`, without a reason.
        """

    async def check(self) -> str | None:
        """Why no mail can be handed over at the moment; None when it can."""

    async def close(self) -> None:
        """Finish what is on its way and let go of everything; no mail is taken afterwards."""
