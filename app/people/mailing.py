"""This room's mails: links to sign in by, and a welcome to whoever has agreed to news.

A row of `mails` is claimed, counted and given a lease in one transaction, sent outside of any, and goes when it is sent
(`kit/mail/sender.py`). What a mail says is put together when it is claimed, for a day may have passed: nobody is
welcomed who has changed their mind, and no link is sent that has expired. Only now is it asked whether there is anybody
to write to: a link goes to people who are known, and asking for one tells nobody whether they are.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.abuse.rate_limits import Limiter
from app.kit.clock import now
from app.kit.crypto.sealing import SealBrokenError
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.mail.message import Mail, MailInvalid, Sender
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS, ClaimedMail, Outcome, Result
from app.kit.mail.templates import MailTemplateError, MailTemplates
from app.kit.settings import Settings
from app.organizations.models import Organization
from app.people import queries
from app.people.account import sign_ins
from app.people.models import Consent
from app.people.personal_data.stores import KnowsPeople
from app.people.sealing import (
    Details,
    Json,
    SignInToken,
    open_details,
    open_mail,
    write_sign_in_token,
    write_unsubscribe_token,
)

# A welcome that nobody's server takes for so long is no longer one.
_LIVES = timedelta(days=3)
# One whose reader has had enough mails for an hour waits as long.
_POSTPONED = timedelta(hours=1)
# Sign-in links first, for they do not last: if a worker is killed, another tries while they do.
_LEASES = {"sign_in": timedelta(minutes=2), "welcome": timedelta(seconds=LEASE_SECONDS)}
_END = text("DELETE FROM mails WHERE due_at <= :now AND (mail_count >= :most OR created_at < :oldest)")
_CLAIM = text("""
    UPDATE mails SET mail_count = mail_count + 1, due_at = :lease WHERE id IN (
        SELECT id FROM mails WHERE kind = :kind AND due_at <= :now ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING id, kind, signer, sealed, mail_count
""")
_DELETE = text("DELETE FROM mails WHERE id = ANY(:ids)")
# Only as many as were claimed for the first time: to be claimed again as if they had not been.
_POSTPONE = text("UPDATE mails SET mail_count = 0, due_at = :later WHERE id = ANY(:ids) AND mail_count = 1")
# Only if it has not been claimed again. A new mail is tried again soon, an old one seldom. A welcome keeps a count of
# one, for it has been counted against its reader's limit.
_AGAIN = text("""
    UPDATE mails AS m SET mail_count = greatest(n.mail_count - :uncounted, CAST(m.kind = 'welcome' AS integer)),
        due_at = now() + least(greatest((now() - m.created_at) / 4, interval '30 seconds'), interval '6 hours')
    FROM unnest(CAST(:ids AS uuid[]), CAST(:counts AS smallint[])) AS n (id, mail_count)
    WHERE m.id = n.id AND m.mail_count = n.mail_count
""")


class Key(NamedTuple):
    """What a letter of this source is known by: its row, and the how manieth sending it is."""

    id: UUID
    mail_count: int


class Content(NamedTuple):
    """What goes into a template, and to whom."""

    kind: str
    recipient: str
    locale: str
    values: dict[str, str]
    unsubscribe_url: str | None = None


class _Due(NamedTuple):
    """A claimed mail, opened."""

    key: Key
    kind: str
    signer: bytes
    said: Json

    def about(self, what: str) -> UUID:
        return UUID(self.said[what])


class _Known(NamedTuple):
    """What is known, of all that the mails of one claim are about, when they are written."""

    people: dict[bytes, bytes]
    elsewhere: set[bytes]
    sign_ins: set[UUID]
    consents: dict[tuple[bytes, UUID, str], Consent]
    organizations: dict[UUID, Organization]


class PeopleMails:
    """The source of these mails, one per worker."""

    name = "people"

    def __init__(
        self,
        database: Database,
        settings: Settings,
        texts: MailTemplates,
        limiter: Limiter,
        acquaintances: Sequence[KnowsPeople],
    ) -> None:
        """With the limiter of all the worker's mails, and those who know people that have no row in this room."""
        self._database = database
        self._settings = settings
        self._ring = settings.key_ring
        self._texts = texts
        self._limiter = limiter
        self._acquaintances = acquaintances
        self._domain = Sender.parse(settings.mail_from).domain

    async def claim(self, limit: int) -> Sequence[ClaimedMail]:
        """Up to so many letters, links to sign in first; there is nothing in one that is not to be sent after all.

        One that cannot be read or worded stays for its lease: the operator may have repaired the key or the text by
        then. It counts as a sending all the same, so that it does not stay for ever.
        """
        moment = now()
        async with self._database.transaction() as session:
            await session.execute(_END, {"now": moment, "most": MOST_SENDINGS, "oldest": moment - _LIVES})
            rows: list[Any] = []
            for kind, lease in _LEASES.items():
                values = {"kind": kind, "now": moment, "lease": moment + lease, "limit": limit - len(rows)}
                rows += (await session.execute(_CLAIM, values)).all()
            due = self._opened(sorted(rows, key=_urgency))
            known = await self._look_up(session, due, moment)
        written = [(one, letter) for one in due if (letter := self._letter(one, known))]
        # Outside of the transaction: a store that limits are shared in may be slow.
        over = {one.key for one, letter in written if letter.mail and not await self._is_within(one)}
        if over:
            async with self._database.transaction() as session:
                await session.execute(_POSTPONE, {"ids": [key.id for key in over], "later": now() + _POSTPONED})
        return [letter for one, letter in written if one.key not in over]

    def _opened(self, rows: Iterable[Any]) -> list[_Due]:
        due = []
        for row in rows:
            try:
                said = open_mail(self._ring, row.id, row.sealed)
                due.append(_Due(Key(row.id, row.mail_count), row.kind, row.signer, said))
            except SealBrokenError as error:
                log.error("mail cannot be written", **failure_of(error))
        return due

    async def _look_up(self, session: AsyncSession, due: Sequence[_Due], moment: datetime) -> _Known:
        """All that these mails are about, in as many statements as for one; but for people nothing else is kept of."""
        wishes = [one for one in due if one.kind == "sign_in"]
        welcomes = [one for one in due if one.kind == "welcome"]
        working = await queries.working_sign_ins(session, {one.about("sign_in") for one in wishes}, moment)
        people = await queries.sealed_of(session, {one.signer for one in due})
        asking = {one.signer for one in wishes if one.about("sign_in") in working}
        return _Known(
            people=people,
            elsewhere={signer for signer in asking - people.keys() if await self._is_known(session, signer)},
            sign_ins=working,
            consents=await queries.latest_of_all(session, {one.signer for one in welcomes}),
            organizations=await queries.organizations_by_id(session, {one.about("organization") for one in welcomes}),
        )

    async def _is_known(self, session: AsyncSession, signer: bytes) -> bool:
        for acquaintance in self._acquaintances:
            if await acquaintance.knows(session, signer):
                return True
        return False

    async def _is_within(self, one: _Due) -> bool:
        """Whether this may be sent now. A welcome is counted when it is claimed for the first time, and never again."""
        if one.kind == "sign_in" or one.key.mail_count > 1:
            return True
        within = await self._limiter.hit(f"{self._settings.mails_per_hour} per hour", "mail", one.signer)
        # Five sendings are the most in any case: one mail too many is better than none.
        return within or self._limiter.lost

    def _letter(self, one: _Due, known: _Known) -> ClaimedMail | None:
        try:
            content = self._sign_in(one, known) if one.kind == "sign_in" else self._welcome(one, known)
            return ClaimedMail(one.key, content and self._mail(one.key.id, content))
        except MailInvalid as error:
            log.error("mail cannot be written", **failure_of(error))
            return ClaimedMail(one.key, None)
        except (SealBrokenError, MailTemplateError) as error:
            log.error("mail cannot be written", **failure_of(error))
            return None

    def _sign_in(self, one: _Due, known: _Known) -> Content | None:
        id_, person = one.about("sign_in"), self._details(one, known)
        if id_ not in known.sign_ins or (person is None and one.signer not in known.elsewhere):
            return None
        email = person.email if person else one.said["email"]
        locale = (person and person.locale) or one.said["locale"]
        token = write_sign_in_token(self._ring, SignInToken(id_, email, one.said["locale"]))
        minutes = str(int(sign_ins.LIFETIME.total_seconds()) // 60)
        return Content("sign_in", email, locale, {"link": self._settings.link("sign_in", token), "minutes": minutes})

    def _welcome(self, one: _Due, known: _Known) -> Content | None:
        organization_id, person = one.about("organization"), self._details(one, known)
        latest = known.consents.get((one.signer, organization_id, "news"))
        organization = known.organizations.get(organization_id)
        if person is None or organization is None or latest is None or not latest.given:
            return None
        token = write_unsubscribe_token(self._ring, one.signer, organization_id)
        link = f"{self._settings.public_url}/unsubscribe?token={token}"
        values = {
            "given_name": person.given_name or "",
            "organization_name": organization.name,
            "unsubscribe_link": link,
        }
        return Content("welcome", person.email, person.locale or "", values, link)

    def _details(self, one: _Due, known: _Known) -> Details | None:
        sealed = known.people.get(one.signer)
        return open_details(self._ring, one.signer, sealed) if sealed else None

    def _mail(self, id_: UUID, content: Content) -> Mail:
        words = self._texts.render(content.kind, content.locale, content.values)
        return Mail(
            recipient=content.recipient,
            subject=words.subject,
            text=words.text,
            html=words.html,
            message_id=f"<{id_.hex}@{self._domain}>",
            locale=words.locale,
            unsubscribe_url=content.unsubscribe_url,
        )

    async def settle(self, settled: Sequence[Result]) -> Sequence[None]:
        """Write down how these ended: what was sent or refused goes, the rest is due again after a while."""
        async with self._database.transaction() as session:
            await session.execute(_DELETE, {"ids": _ids(settled, {Outcome.SENT, Outcome.REFUSED})})
            for end, uncounted in ((Outcome.LATER, 1), (Outcome.UNKNOWN, 0)):
                keys: list[Key] = sorted(one.letter.key for one in settled if one.end is end)
                if keys:
                    ids, counts = [key.id for key in keys], [key.mail_count for key in keys]
                    await session.execute(_AGAIN, {"ids": ids, "counts": counts, "uncounted": uncounted})
        return [None] * len(settled)


def _urgency(row: Any) -> tuple[bool, UUID]:
    """A link to sign in is good for minutes; else the older mail goes first."""
    return row.kind != "sign_in", row.id


def _ids(settled: Iterable[Result], ends: set[Outcome]) -> list[UUID]:
    return sorted(one.letter.key.id for one in settled if one.end in ends)
