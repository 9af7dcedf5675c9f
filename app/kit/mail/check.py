"""The check of the mail server when the worker starts: nobody should first learn by a mail that none can be sent."""

import asyncio

from app.kit import metrics
from app.kit.logs import failure_of, log
from app.kit.mail.message import MailTransport
from app.kit.mail.outcome import Outcome


async def check_transport(transport: MailTransport, ending: asyncio.Event) -> None:
    """Log and count it if no mail could be sent; a check under way is cut short when `ending` is set."""
    check, ended = asyncio.create_task(_reason_against(transport)), asyncio.create_task(ending.wait())
    try:
        await asyncio.wait([check, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Whoever cancels this check ends both tasks, too.
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
