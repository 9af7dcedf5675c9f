"""Sending mails over SMTP, on a few connections that are each used for many mails.

A mail costs four round trips on a connection that is open, so that connections are kept, reopened when the server has
closed them, and given back when nothing was sent for a while.
"""

import asyncio
import re

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from app.kit.clock import now
from app.kit.mail.file_transport import FileTransport
from app.kit.mail.message import Delivery, Mail, MailDeliveryError, MailTransport, Sender, SmtpUrl
from app.kit.settings import Settings

_IDLE_SECONDS = 30.0
_TIMEOUT_SECONDS = 30.0
# A server that is given up on after the last byte may have taken the mail, and gets it again: RFC 5321, section
# 4.5.3.2.6, asks for patience here.
_PATIENCE_FACTOR = 10
# A 5xx that speaks of us and not of the recipient: no such command, wrong order, no mail taken here, log in first.
_ABOUT_US = {500, 502, 503, 504, 521, 530, 534, 535, 538}
# Security and policy (RFC 3463, section 3.8): above all a relay that does not know us yet.
_POLICY = re.compile(r"5\.7\.\d")
_PERMANENT = 500
_CLOSING = 421


class SmtpTransport:
    """A post that hands mails to one SMTP server, over at most `connections` connections at once."""

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

    async def send(self, mail: Mail) -> Delivery:
        """Hand over one mail; PostFailed when the server cannot be reached or asks to come again."""
        async with self._free:
            if self._closed:
                raise MailDeliveryError("closed")
            try:
                return await self._send(mail)
            except SMTPResponseException as error:
                raise MailDeliveryError(f"answered {error.code}") from None
            except TimeoutError:
                raise MailDeliveryError("timed out") from None
            except (SMTPException, OSError) as error:
                raise MailDeliveryError(type(error).__name__) from None

    async def _send(self, mail: Mail) -> Delivery:
        written = mail.as_bytes(self._sender, now())
        smtp, begun = await self._begin(mail)
        try:
            delivery = begun or await self._hand_over(smtp, mail, written)
        except SMTPResponseException:
            await self._start_over(smtp)
            raise
        except BaseException:
            # Interrupted in the middle of a command, whose answer would be taken for the next one's.
            smtp.close()
            raise
        if delivery is Delivery.REFUSED:
            await self._start_over(smtp)
        else:
            self._rest(smtp)
        return delivery

    async def _begin(self, mail: Mail) -> tuple[SMTP, Delivery | None]:
        """A connection on which this mail was announced. One that a server closed while it rested is replaced."""
        while self._resting:
            smtp, timer = self._resting.popitem()
            timer.cancel()
            try:
                return smtp, await self._announce(smtp, mail)
            except SMTPServerDisconnected:
                smtp.close()
            except SMTPSenderRefused as error:
                await self._start_over(smtp)
                if error.code != _CLOSING:
                    raise
            except BaseException:
                smtp.close()
                raise
        smtp = await self._open()
        try:
            return smtp, await self._announce(smtp, mail)
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

    async def _announce(self, smtp: SMTP, mail: Mail) -> Delivery | None:
        """MAIL FROM; REFUSED when the server cannot spell this recipient."""
        if not mail.needs_utf8:
            await smtp.mail(self._sender.address)
            return None
        if smtp.is_ehlo_or_helo_needed:
            await smtp.ehlo()
        if not smtp.supports_extension("smtputf8"):
            return Delivery.REFUSED
        await smtp.mail(self._sender.address, options=["SMTPUTF8"])
        return None

    async def _hand_over(self, smtp: SMTP, mail: Mail, written: bytes) -> Delivery:
        try:
            await smtp.rcpt(mail.envelope_recipient, encoding="utf-8")
            await self._data(smtp, written)
        except SMTPResponseException as error:
            if not _is_final(error):
                raise
            return Delivery.REFUSED
        return Delivery.SENT

    async def _data(self, smtp: SMTP, written: bytes) -> None:
        """Send the mail itself. Without the server's last word nobody knows whether it has it."""
        try:
            await smtp.data(written, timeout=self._timeout_seconds * _PATIENCE_FACTOR)
        except SMTPResponseException:
            raise
        except (SMTPException, OSError, TimeoutError) as error:
            raise MailDeliveryError(type(error).__name__, maybe_sent=True) from None

    async def _start_over(self, smtp: SMTP) -> None:
        """Forget the mail under way, and keep the connection if the server does."""
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
        # It is gone already, which is what was asked for.
        return
    finally:
        smtp.close()


def _is_final(error: SMTPResponseException) -> bool:
    """Whether this answer says that the recipient, or this mail to them, will never be taken."""
    about_us = error.code in _ABOUT_US or (isinstance(error, SMTPRecipientRefused) and _POLICY.match(error.message))
    return error.code >= _PERMANENT and not about_us


def open_transport(settings: Settings) -> MailTransport | None:
    """The post the settings name: SMTP, else the outbox folder, else None. To be called where it will be used."""
    sender = Sender.parse(settings.mail_from)
    if settings.smtp_url:
        return SmtpTransport(settings.smtp_url.get_secret_value(), sender, connections=settings.mail_connections)
    return FileTransport.open(settings.outbox_dir, sender) if settings.outbox_dir else None
