"""The SMTP transport: a pool of a few connections to one server, each used for many mails.

A mail costs four round trips on a connection that is open. So connections are kept, reopened when the server has closed
them, and given back when nothing was sent for a while.
"""

import asyncio
import re
import time
from math import inf
from ssl import SSLError

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from app.kit.clock import now
from app.kit.mail import outcome
from app.kit.mail.file_transport import FileTransport
from app.kit.mail.message import Mail, MailTransport, Sender, SmtpUrl
from app.kit.mail.outcome import SENT, Outcome, SendResult
from app.kit.mail.settings import MailSettings

_IDLE_SECONDS = 30.0
_TIMEOUT_SECONDS = 30.0
# A server that is given up on after the last byte may have taken the mail, and gets it again: RFC 5321, section
# 4.5.3.2.6, asks for patience here.
_PATIENCE_FACTOR = 10
# Log in first, or in another way.
_AUTH = {530, 534, 535, 538}
# A 5xx that speaks of us and not of the recipient: no such command, wrong order, no mail taken here, log in first.
_ABOUT_US = {500, 502, 503, 504, 521, *_AUTH}
# Security and policy (RFC 3463, section 3.8): above all a relay that does not know us yet.
_POLICY = re.compile(r"5\.7\.\d")
# What RFC 5321 lets a server begin its answer with; the library gives -1 for what is no answer.
_CODES = range(200, 600)
_PERMANENT = 500
_CLOSING = 421


class _LostAtEndError(Exception):
    """The connection was lost after the mail was handed over, before the server's last word. Its cause says how."""


class SmtpTransport:
    """A mail transport that hands mails to one SMTP server, over at most `connections` connections at once."""

    def __init__(
        self,
        url: str,
        sender: Sender,
        *,
        connections: int = 8,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._route = SmtpUrl.parse(url)
        self._sender = sender
        self._timeout_seconds = timeout_seconds
        self._idle_seconds = idle_seconds
        self._connections = connections
        self._free = asyncio.Semaphore(connections)
        # The one used last is taken first, so that those a quiet hour does not need grow idle.
        self._resting: dict[SMTP, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    async def send(self, mail: Mail, begin_before: float = inf) -> SendResult:
        """Hand over one mail, as soon as a connection is free."""
        async with self._free:
            if self._closed:
                return SendResult(Outcome.LATER, outcome.CLOSING)
            # The senders of all sources share these connections: with a slow server the wait may be long.
            if time.monotonic() >= begin_before:
                return SendResult(Outcome.LATER)
            try:
                return await self._send(mail)
            except _LostAtEndError as error:
                return SendResult(Outcome.UNKNOWN, _reason(error.__cause__))
            except (SMTPException, OSError) as error:
                return SendResult(Outcome.LATER, _reason(error))

    async def check(self) -> str | None:
        """Open a connection and log in; the reason when that fails. The connection is kept for the next mail."""
        async with self._free:
            try:
                self._rest(await self._open())
            except (SMTPException, OSError) as error:
                return _reason(error)
        return None

    async def _send(self, mail: Mail) -> SendResult:
        written = mail.as_bytes(self._sender, now())
        smtp, refusal = await self._begin(mail)
        try:
            result = refusal or await self._hand_over(smtp, mail, written)
        except SMTPResponseException:
            await self._reset(smtp)
            raise
        except BaseException:
            # It broke off in the middle of a command, whose answer would be taken for the next one's.
            smtp.close()
            raise
        if result.outcome is Outcome.REFUSED:
            await self._reset(smtp)
        else:
            self._rest(smtp)
        return result

    async def _begin(self, mail: Mail) -> tuple[SMTP, SendResult | None]:
        """A connection on which MAIL FROM was accepted. One that the server closed while it rested is replaced."""
        while self._resting:
            smtp, timer = self._resting.popitem()
            timer.cancel()
            try:
                return smtp, await self._mail_from(smtp, mail)
            except SMTPServerDisconnected:
                smtp.close()
            except SMTPSenderRefused as error:
                await self._reset(smtp)
                if error.code != _CLOSING:
                    raise
            except BaseException:
                smtp.close()
                raise
        smtp = await self._open()
        try:
            return smtp, await self._mail_from(smtp, mail)
        except BaseException:
            smtp.close()
            raise

    async def _open(self) -> SMTP:
        route = self._route
        smtp = SMTP(
            hostname=route.host,
            port=route.port,
            username=route.username,
            password=route.password,
            use_tls=route.use_tls,
            start_tls=route.start_tls,
            timeout=self._timeout_seconds,
            # Not this machine's name: to find it may take a slow question to a name server, and it tells too much.
            local_hostname=self._sender.domain,
        )
        await smtp.connect()
        return smtp

    async def _mail_from(self, smtp: SMTP, mail: Mail) -> SendResult | None:
        """Send MAIL FROM; a refusal when the server cannot spell this recipient."""
        if not mail.needs_utf8:
            await smtp.mail(self._sender.address)
            return None
        if smtp.is_ehlo_or_helo_needed:
            await smtp.ehlo()
        if not smtp.supports_extension("smtputf8"):
            return SendResult(Outcome.REFUSED, outcome.NO_UTF8)
        await smtp.mail(self._sender.address, options=["SMTPUTF8"])
        return None

    async def _hand_over(self, smtp: SMTP, mail: Mail, written: bytes) -> SendResult:
        try:
            await smtp.rcpt(mail.envelope_recipient, encoding="utf-8")
            await self._data(smtp, written)
        except SMTPResponseException as error:
            if not _is_final(error):
                raise
            return SendResult(Outcome.REFUSED, f"{outcome.REFUSED_RECIPIENT}-{error.code}")
        return SENT

    async def _data(self, smtp: SMTP, written: bytes) -> None:
        """Send DATA, the mail itself. Without the server's last word nobody knows whether it has taken it."""
        try:
            await smtp.data(written, timeout=self._timeout_seconds * _PATIENCE_FACTOR)
        except SMTPResponseException:
            raise
        except (SMTPException, OSError, TimeoutError) as error:
            raise _LostAtEndError from error

    async def _reset(self, smtp: SMTP) -> None:
        """Send RSET, which forgets the mail under way, and keep the connection if the server does."""
        try:
            await smtp.rset()
        except (SMTPException, OSError):
            smtp.close()
        except BaseException:
            smtp.close()
            raise
        self._rest(smtp)

    def _rest(self, smtp: SMTP) -> None:
        if smtp.is_connected:
            timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._leave, smtp)
            self._resting[smtp] = timer

    def _leave(self, smtp: SMTP) -> None:
        self._resting.pop(smtp).cancel()
        task = asyncio.create_task(_quit(smtp))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Finish the mails under way, then say goodbye on every connection."""
        self._closed = True
        for _ in range(self._connections):
            await self._free.acquire()
        for smtp in list(self._resting):
            self._leave(smtp)
        await asyncio.gather(*self._leaving)
        for _ in range(self._connections):
            self._free.release()


async def _quit(smtp: SMTP) -> None:
    try:
        await smtp.quit()
    except (SMTPException, OSError):
        # It is closed already, which is what was asked for.
        return
    finally:
        smtp.close()


def _is_final(error: SMTPResponseException) -> bool:
    """Whether this answer says that the recipient, or this mail to them, will never be taken."""
    about_us = error.code in _ABOUT_US or (isinstance(error, SMTPRecipientRefused) and _POLICY.match(error.message))
    return error.code >= _PERMANENT and not about_us


def _reason(error: BaseException | None) -> str:
    """The short code for what the SMTP library raised. Its message is not used: it may quote an address."""
    if isinstance(error, SMTPResponseException):
        return _reason_of_answer(error)
    if isinstance(error, SSLError) or (error and isinstance(error.__cause__, SSLError)):
        return outcome.TLS_FAILED
    if isinstance(error, TimeoutError):
        return outcome.TIMEOUT
    if isinstance(error, SMTPServerDisconnected):
        return outcome.CONNECTION_LOST
    return outcome.CONNECT_FAILED if isinstance(error, OSError) else outcome.UNSUPPORTED


def _reason_of_answer(error: SMTPResponseException) -> str:
    if error.code not in _CODES:
        return outcome.PROTOCOL
    if error.code < _PERMANENT:
        return f"{outcome.TRY_LATER}-{error.code}"
    if error.code in _AUTH or isinstance(error, SMTPAuthenticationError):
        return outcome.AUTH_FAILED
    return f"{outcome.REFUSED_US}-{error.code}"


def open_transport(settings: MailSettings) -> MailTransport | None:
    """The mail transport the settings name: SMTP, else files, else None. To be called in the loop that uses it."""
    sender = Sender.parse(settings.mail_from)
    if settings.smtp_url:
        return SmtpTransport(settings.smtp_url.get_secret_value(), sender, connections=settings.mail_connections)
    return FileTransport.open(settings.outbox_dir, sender) if settings.outbox_dir else None
