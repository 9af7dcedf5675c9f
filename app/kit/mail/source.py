"""A mail source with leases: what the sources of all rooms have in common.

A room keeps a row that says that a mail is due. Its source says how such rows are claimed, opened and settled. What is
the same for all stands here: the order of these steps, that one unreadable row costs that row only, the limit of mails
per recipient, rendering, and keeping the last failure (`failures.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealed_records import RecordUnreadableError
from app.kit.crypto.sealing import SealBrokenError
from app.kit.database.session import Database
from app.kit.logs import failure_of
from app.kit.mail import failures, outcome
from app.kit.mail.message import Mail, MailInvalid, Sender
from app.kit.mail.outcome import Outcome, SendResult
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS, Claim, ClaimedMail, Result, log_result
from app.kit.mail.settings import MailSettings
from app.kit.mail.templates import MailTemplateError, MailTemplates

T = TypeVar("T")
Opened = TypeVar("Opened")
Known = TypeVar("Known")
# A row of the room's, with at least `id`, `kind` and `mail_count`, which is the number of this attempt.
MailRow: TypeAlias = Any


class RecipientLimit(Protocol):
    """The rate limiter, as far as a mail source needs it."""

    degraded: bool

    async def hit(self, limit: str, *identifiers: str | bytes) -> bool:
        """Count one more, and whether it was within the limit."""
        ...


class Taken(NamedTuple):
    """The rows that were claimed, and those that are due no more.

    `given_up`: they were to be sent, and were tried often enough or are too old. `not_needed`: nothing was to be sent.
    """

    rows: Sequence[MailRow]
    given_up: Sequence[MailRow]
    not_needed: Sequence[MailRow] = ()


class MailDraft(NamedTuple):
    """A mail before it is rendered.

    `template_locales`: the locales to fall back to. `message_id` tells this mail from others; its digest is mailed.
    """

    recipient: str
    locale: str
    values: Mapping[str, Any]
    message_id: str
    unsubscribe_url: str | None = None
    template_locales: Iterable[str] = ()


class _Broken(NamedTuple):
    """A row that cannot be made into a mail, and why."""

    result: SendResult
    facts: Mapping[str, Any]


class LeasedMails(ABC, Generic[Opened, Known]):
    """A mail source, one per worker. A room fills in the abstract methods."""

    name: str

    def __init__(
        self, database: Database, settings: MailSettings, templates: MailTemplates, limit: RecipientLimit | None = None
    ) -> None:
        self._database = database
        self._settings = settings
        self._ring = settings.key_ring
        self._templates = templates
        self._limit = limit
        self._domain = Sender.parse(settings.mail_from).domain

    @abstractmethod
    async def _take(self, session: AsyncSession, limit: int, moment: datetime) -> Taken:
        """Claim up to so many due rows: count the sending, and make them due again when the lease is over."""

    @abstractmethod
    def _open(self, row: MailRow) -> Opened:
        """Open what is sealed in a row. Whatever this raises, the row is unreadable."""

    @abstractmethod
    async def _look_up(self, session: AsyncSession, opened: Sequence[Opened], moment: datetime) -> Known:
        """Read all that these mails are about, in as many statements for many as for one."""

    @abstractmethod
    def _draft(self, opened: Opened, known: Known) -> MailDraft | None:
        """What one mail says; None when there is nothing to send after all."""

    @abstractmethod
    async def _done(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        """Mark these as due no more."""

    async def _handed_over(self, session: AsyncSession, rows: Sequence[MailRow], moment: datetime) -> None:
        """Note that the mail server has these mails, or may have. Before anything else is locked or settled."""

    @abstractmethod
    async def _reschedule(
        self, session: AsyncSession, rows: Sequence[MailRow], *, refund_attempt: bool
    ) -> Collection[UUID]:
        """Make these due again after a while, and return the ids of those that are given up instead.

        `refund_attempt`: this attempt does not count.
        """

    @abstractmethod
    async def _lock_due(self, session: AsyncSession, rows: Sequence[MailRow]) -> Collection[UUID]:
        """Lock those of these rows that wait to be settled, and return their ids.

        The others have been settled, or are gone: confirmed meanwhile, or erased.
        """

    def _lease_of(self, row: MailRow) -> float:  # noqa: ARG002 - a room may say otherwise
        """The seconds of the lease that a row was claimed under."""
        return LEASE_SECONDS

    def _is_limited(self, row: MailRow) -> bool:  # noqa: ARG002 - a room may say otherwise
        """Whether this attempt counts against the limit of mails to `row.signer`."""
        return False

    def _client_of(self, row: MailRow) -> bytes | None:  # noqa: ARG002 - a room may say otherwise
        """Who caused this mail, if it was somebody else than its recipient."""
        return None

    async def _postpone(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        """Make these due in an hour, as if they had not been claimed: their recipients have had enough for now."""
        raise NotImplementedError

    async def claim(self, limit: int) -> Claim:
        """Claim up to so many due mails and write them; committed on return.

        One that cannot be written comes without a mail and with the reason. It costs no other anything.
        """
        moment = now()
        async with self._database.transaction() as session:
            taken = await self._take(session, limit, moment)
            rows, given_up = taken.rows, [_gave_up(row) for row in taken.given_up]
            await failures.give_up(session, self.name, given_up)
            await failures.forget_waiting(session, self.name, [row.id for row in taken.not_needed])
            opened = [_unless_broken(self._open, row) for row in rows]
            known = await self._look_up(session, [one for one in opened if not isinstance(one, _Broken)], moment)
            failed = await failures.failed_before(session, self.name, [row.id for row in rows])
        for row in taken.not_needed:
            log_result(self.name, _ended(row, outcome.NOT_NEEDED))
        for one in given_up:
            log_result(self.name, one, is_given_up=True)
        claimed = [self._claimed(row, one, known, failed) for row, one in zip(rows, opened, strict=True)]
        return Claim(await self._postpone_over_limit(claimed), sum(map(len, taken)))

    def _claimed(self, row: MailRow, opened: Opened | _Broken, known: Known, failed: Collection[UUID]) -> ClaimedMail:
        mail = opened if isinstance(opened, _Broken) else _unless_broken(self._mail, row, opened, known)
        claimed = ClaimedMail(
            row, None, row.id, row.kind, row.mail_count, has_failed=row.id in failed, lease=self._lease_of(row)
        )
        if isinstance(mail, _Broken):
            return claimed._replace(unsent=mail.result, facts=mail.facts)
        return claimed._replace(mail=mail)

    def _mail(self, row: MailRow, opened: Opened, known: Known) -> Mail | None:
        draft = self._draft(opened, known)
        if draft is None:
            return None
        words = self._templates.render(row.kind, draft.locale, draft.values, draft.template_locales)
        return Mail(
            recipient=draft.recipient,
            subject=words.subject,
            text=words.text,
            html=words.html,
            message_id=f"<{self._told(draft.message_id)}@{self._domain}>",
            locale=words.locale,
            unsubscribe_url=draft.unsubscribe_url,
        )

    def _told(self, message_id: str) -> str:
        """What a mail server and a mailbox keep beside an address: no id that stands in a dump."""
        return self._ring.digest(f"message {message_id}").hex()

    async def _postpone_over_limit(self, claimed: Sequence[ClaimedMail]) -> Sequence[ClaimedMail]:
        """Postpone those whose recipients have had their mails of this hour, and return the others.

        Not in the transaction that claims: a store that limits are shared in may be slow.
        """
        over = {one.id: one.key for one in claimed if one.mail and not await self._may_send(one.key)}
        if over:
            async with self._database.transaction() as session:
                await self._postpone(session, list(over.values()))
        return [one for one in claimed if one.id not in over]

    async def _may_send(self, row: MailRow) -> bool:
        if self._limit is None or not self._is_limited(row):
            return True
        within = await self._is_within(self._limit, row.signer, self._client_of(row))
        # Five sendings are the most in any case: without the store, one mail too many is better than none.
        return within or self._limit.degraded

    async def _is_within(self, limit: RecipientLimit, signer: bytes, client: bytes | None) -> bool:
        """Whether one more mail to this person is within the limits of an hour.

        The first one that a client causes is counted apart from all that follow: so one client, however much it causes,
        leaves room for those who have caused none yet. That room is for as many clients as mails, and no more.
        """
        most = self._settings.mails_per_hour
        if client is None:
            return await limit.hit(f"{most} per hour", "mail", signer)
        if await limit.hit("1 per hour", "mail-first", signer, client):
            return await limit.hit(f"{most} per hour", "mail-firsts", signer)
        return await limit.hit(f"{most} per hour", "mail", signer)

    async def settle(self, results: Sequence[Result]) -> Sequence[bool]:
        """Record these results in one transaction; of each, whether its mail was given up.

        An unreadable row keeps its lease: only the reason is kept. No failure is kept of a row that is settled already
        or gone: so this is harmless to repeat, and nothing is kept of somebody who was erased meanwhile.
        """
        rows = {end: [one.claimed.key for one in results if one.outcome is end] for end in Outcome}
        given_up: set[UUID] = set()
        async with self._database.transaction() as session:
            if handed_over := rows[Outcome.SENT] + rows[Outcome.UNKNOWN]:
                await self._handed_over(session, handed_over, now())
            # All of them at once, in the order in which everybody locks them.
            locked = set(await self._lock_due(session, [one.claimed.key for one in results]) if results else ())
            gone = {one.claimed.id for one in results} - locked
            if over := rows[Outcome.SENT] + rows[Outcome.REFUSED]:
                await self._done(session, over)
            for end, refund_attempt in ((Outcome.LATER, True), (Outcome.UNKNOWN, False)):
                if rows[end]:
                    given_up.update(await self._reschedule(session, rows[end], refund_attempt=refund_attempt))
            kept = [one for one in results if not (failures.is_failure(one) and one.claimed.id in gone)]
            await failures.record(session, self.name, kept, given_up)
            ended = [one for one in results if one.claimed.id in given_up and one.is_given_back]
            await failures.give_up(session, self.name, [one._replace(reason=outcome.EXPIRED) for one in ended])
        return [one.claimed.id in given_up for one in results]


def _gave_up(row: MailRow) -> Result:
    """The result of a row that was given up when it was to be claimed."""
    return _ended(row, outcome.TOO_MANY_SENDINGS if row.mail_count >= MOST_SENDINGS else outcome.EXPIRED)


def _ended(row: MailRow, reason: str) -> Result:
    return Result(ClaimedMail(row, None, row.id, row.kind, row.mail_count), Outcome.REFUSED, reason)


def _unless_broken(call: Callable[..., T], *values: Any) -> T | _Broken:
    """What `call` returns; when it raises, that this row is broken, and why."""
    try:
        return call(*values)
    except MailInvalid as error:
        return _Broken(SendResult(Outcome.REFUSED, outcome.MAIL_INVALID), failure_of(error))
    except MailTemplateError as error:
        return _Broken(SendResult(Outcome.UNREADABLE, outcome.TEMPLATE_BROKEN), failure_of(error))
    except RecordUnreadableError as error:
        return _Broken(SendResult(Outcome.UNREADABLE, outcome.RECORD_UNKNOWN), failure_of(error))
    except SealBrokenError as error:
        return _Broken(SendResult(Outcome.UNREADABLE, outcome.UNREADABLE), failure_of(error))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one row must not cost the others
        return _Broken(SendResult(Outcome.UNREADABLE, outcome.UNWRITABLE), failure_of(error))
