"""A real mail server for tests: it takes mails as any server does, can be asked what it took, and can be difficult."""

import asyncio
import email
import re
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default
from typing import Any, Self
from urllib.parse import quote

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.services import PATIENCE

_LINK = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class ReceivedMail:
    """One mail as the server got it."""

    sender: str
    recipient: str
    message: EmailMessage
    raw: bytes
    options: list[str]

    @property
    def to(self) -> str:
        return str(self.message["To"])

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    @property
    def links(self) -> list[str]:
        """The links of the plain text, in their order."""
        return _LINK.findall(self.text)

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content())


class SmtpServer:
    """A mail server on a free loopback port, in a thread of its own; as a context manager.

    `answer(...)` makes it difficult: an SMTP answer to RCPT for one recipient, or "drop" to hang up instead,
    `times` times or for good. `at_data=True` is difficult only once the whole mail was sent.
    """

    def __init__(
        self,
        *,
        utf8: bool = True,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        from_the_start: bool = False,
    ) -> None:
        """With `tls` it offers STARTTLS, or speaks nothing but TLS `from_the_start`."""
        self.mails: list[ReceivedMail] = []
        # How many connections said hello, and how many are open now.
        self.connections = 0
        self.open_now = 0
        self._login = login
        self._changed = threading.Condition()
        self._difficult: dict[tuple[str, bool], tuple[str, int]] = {}
        self._controller = _Controller(self, utf8=utf8, login=login, tls=tls, from_the_start=from_the_start)

    def __enter__(self) -> Self:
        self._controller.start()
        with self._changed:
            self.connections = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
        self._controller.listener.close()

    @property
    def port(self) -> int:
        return int(self._controller.port)

    @property
    def url(self) -> str:
        """What SMTP_URL is to be."""
        user = "".join(f"{quote(word, safe='')}{end}" for word, end in zip(self._login or (), ":@", strict=False))
        return f"smtp://{user}127.0.0.1:{self.port}"

    def answer(self, recipient: str, answer: str, *, times: int = 1_000_000, at_data: bool = False) -> None:
        with self._changed:
            self._difficult[recipient, at_data] = (answer, times)

    def hang_up(self) -> None:
        """Close every open connection, as a server does with those that rest for too long."""
        done = threading.Event()
        self._controller.loop.call_soon_threadsafe(self._controller.hang_up, done)
        assert done.wait(PATIENCE)
        self.wait_until_open(0)

    def to(self, recipient: str) -> list[ReceivedMail]:
        return [mail for mail in self.mails if mail.recipient == recipient]

    def counts(self) -> Counter[str]:
        """How many mails each recipient got."""
        return Counter(mail.recipient for mail in self.mails)

    def wait_for(self, count: int, seconds: float = PATIENCE) -> list[ReceivedMail]:
        """Wait until so many mails are there."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.mails) >= count, seconds), f"{len(self.mails)} of {count}"
            return list(self.mails)

    async def arrived(self, count: int = 1, seconds: float = PATIENCE) -> list[ReceivedMail]:
        """Wait until so many mails are there, without holding up the loop."""
        return await asyncio.to_thread(self.wait_for, count, seconds)

    def wait_until_open(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until exactly so many connections are open."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.open_now == count, seconds), f"{self.open_now} open"

    # What the server asks, in its own thread.

    def connected(self, change: int) -> None:
        with self._changed:
            self.open_now += change
            self.connections += change > 0
            self._changed.notify_all()

    def _next_answer(self, server: SMTP, recipient: str, *, at_data: bool) -> str | None:
        with self._changed:
            answer, times = self._difficult.get((recipient, at_data), ("", 0))
            if times:
                self._difficult[recipient, at_data] = (answer, times - 1)
        if times and answer == "drop":
            server.transport.abort()
        return answer if times else None

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self._next_answer(server, address, at_data=False)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        (recipient,) = envelope.rcpt_tos
        answer = self._next_answer(server, recipient, at_data=True)
        if answer is not None:
            return answer
        raw = envelope.content
        assert isinstance(raw, bytes)
        message = email.message_from_bytes(raw, policy=default)
        assert isinstance(message, EmailMessage)
        with self._changed:
            self.mails.append(ReceivedMail(envelope.mail_from or "", recipient, message, raw, envelope.mail_options))
            self._changed.notify_all()
        return "250 OK"


class _Server(SMTP):
    """The library's server, which says when somebody comes and goes."""

    mailbox: SmtpServer

    def connection_made(self, transport: Any) -> None:
        self._mailbox_counted = self.transport is None  # once more after STARTTLS
        super().connection_made(transport)
        if self._mailbox_counted:
            self.mailbox.connected(1)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.mailbox.connected(-1)


class _Controller(Controller):
    def __init__(
        self,
        mailbox: SmtpServer,
        *,
        utf8: bool,
        login: tuple[str, str] | None,
        tls: ssl.SSLContext | None,
        from_the_start: bool,
    ) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._mailbox = mailbox
        self._servers: list[_Server] = []
        super().__init__(
            mailbox,
            hostname="127.0.0.1",
            port=self.listener.getsockname()[1],
            enable_SMTPUTF8=utf8,
            tls_context=None if from_the_start else tls,
            ssl_context=tls if from_the_start else None,
            auth_require_tls=False,
            auth_required=False,
            authenticator=_authenticator(login) if login else None,
            server_hostname="mailbox.test",
        )

    def factory(self) -> SMTP:
        server = _Server(self.handler, **self.SMTP_kwargs)
        server.mailbox = self._mailbox
        self._servers.append(server)
        return server

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self.listener, ssl=self.ssl_context)

    def hang_up(self, done: threading.Event) -> None:
        for server in self._servers:
            if server.transport is not None:
                server.transport.close()
        done.set()


def _authenticator(login: tuple[str, str]) -> Any:
    def check(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: LoginPassword) -> AuthResult:
        right = (data.login.decode(), data.password.decode()) == login
        return AuthResult(success=right, handled=right)

    return check
