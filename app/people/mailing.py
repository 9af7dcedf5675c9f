"""This room's mails: links to sign in by, and a welcome to whoever has agreed to news.

A row of `mails` is claimed, counted and given a lease in one transaction, sent outside of any, and goes when it is sent
(`kit/dispatch.py`). What a mail says is put together when it is claimed, for a day may have passed: nobody is welcomed
who has changed their mind, and no link is sent that has expired. Only now is it asked whether there is anybody to
write to: a link goes to people who are known, and asking for one tells nobody whether they are.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.db import Database
from app.kit.dispatch import LEASE_SECONDS, MOST_SENDINGS, End, Letter, Settled
from app.kit.logs import failure_of, log
from app.kit.mail import Mail, MailInvalid, Sender
from app.kit.sealing import SealBrokenError
from app.kit.settings import Settings
from app.kit.texts import TextBroken, Texts
from app.people import queries, service, sign_ins
from app.people.keepers import Acquaintance
from app.people.models import SignIn
from app.people.sealing import Json, SignInToken, open_mail, write_sign_in_token, write_unsubscribe_token

# A welcome that nobody's server takes for so long is no longer one.
_LIVES = timedelta(days=3)
_END = text("DELETE FROM mails WHERE due_at <= :now AND (mail_count >= :most OR created_at < :oldest)")
_CLAIM = text("""
    UPDATE mails SET mail_count = mail_count + 1, due_at = :lease WHERE id IN (
        SELECT id FROM mails WHERE due_at <= :now ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING id, kind, signer, sealed, mail_count
""")
_DELETE = text("DELETE FROM mails WHERE id = ANY(:ids)")
# Only if it has not been claimed again. A new mail is tried again soon, an old one seldom.
_AGAIN = text("""
    UPDATE mails AS m SET mail_count = n.mail_count - :uncounted,
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


class PeopleMails:
    """The source of these mails, one per worker."""

    name = "people"

    def __init__(
        self, database: Database, settings: Settings, texts: Texts, acquaintances: Sequence[Acquaintance]
    ) -> None:
        """With those who know people that have no row in this room."""
        self._database = database
        self._settings = settings
        self._ring = settings.key_ring
        self._texts = texts
        self._acquaintances = acquaintances
        self._domain = Sender.parse(settings.mail_from).domain

    async def claim(self, limit: int) -> Sequence[Letter]:
        """Up to so many letters; there is nothing in one that is not to be sent after all.

        One that cannot be read or worded stays for its lease: the operator may have repaired the key or the text by
        then. It counts as a sending all the same, so that it does not stay for ever.
        """
        moment = now()
        values = {"now": moment, "lease": moment + timedelta(seconds=LEASE_SECONDS), "limit": limit}
        letters = []
        async with self._database.transaction() as session:
            await session.execute(_END, {"now": moment, "most": MOST_SENDINGS, "oldest": moment - _LIVES})
            for row in (await session.execute(_CLAIM, values)).all():
                try:
                    letters.append(await self._letter(session, row))
                except (SealBrokenError, TextBroken) as error:
                    log.error("mail cannot be written", **failure_of(error))
        return letters

    async def _letter(self, session: AsyncSession, row: Any) -> Letter:
        key = Key(row.id, row.mail_count)
        said = open_mail(self._ring, row.id, row.sealed)
        write = self._sign_in if row.kind == "sign_in" else self._welcome
        content = await write(session, row.signer, said)
        if content is None:
            return Letter(key, None)
        try:
            return Letter(key, self._mail(row.id, content))
        except MailInvalid as error:
            log.error("mail cannot be written", **failure_of(error))
            return Letter(key, None)

    async def _sign_in(self, session: AsyncSession, signer: bytes, said: Json) -> Content | None:
        sign_in = await session.get(SignIn, UUID(said["sign_in"]))
        if sign_in is None or sign_in.used_at is not None or sign_in.expires_at <= now():
            return None
        person = await service.details_of(session, self._ring, signer)
        if person is None and not await self._is_known(session, signer):
            return None
        email = person.email if person else said["email"]
        locale = (person and person.locale) or said["locale"]
        token = write_sign_in_token(self._ring, SignInToken(sign_in.id, email, said["locale"]))
        minutes = str(int(sign_ins.LIFETIME.total_seconds()) // 60)
        return Content("sign_in", email, locale, {"link": self._settings.link("sign_in", token), "minutes": minutes})

    async def _is_known(self, session: AsyncSession, signer: bytes) -> bool:
        for acquaintance in self._acquaintances:
            if await acquaintance.knows(session, signer):
                return True
        return False

    async def _welcome(self, session: AsyncSession, signer: bytes, said: Json) -> Content | None:
        organization_id = UUID(said["organization"])
        latest = (await queries.latest_of(session, signer)).get((organization_id, "news"))
        person = await service.details_of(session, self._ring, signer)
        organization = (await queries.organizations_by_id(session, [organization_id])).get(organization_id)
        if person is None or organization is None or latest is None or not latest.given:
            return None
        token = write_unsubscribe_token(self._ring, signer, organization_id)
        link = f"{self._settings.public_url.rstrip('/')}/unsubscribe?token={token}"
        values = {
            "given_name": person.given_name or "",
            "organization_name": organization.name,
            "unsubscribe_link": link,
        }
        return Content("welcome", person.email, person.locale or "", values, link)

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

    async def settle(self, settled: Sequence[Settled]) -> Sequence[None]:
        """Write down how these ended: what was sent or refused goes, the rest is due again after a while."""
        async with self._database.transaction() as session:
            await session.execute(_DELETE, {"ids": _ids(settled, {End.SENT, End.REFUSED})})
            for end, uncounted in ((End.LATER, 1), (End.UNKNOWN, 0)):
                keys: list[Key] = sorted(one.letter.key for one in settled if one.end is end)
                if keys:
                    ids, counts = [key.id for key in keys], [key.mail_count for key in keys]
                    await session.execute(_AGAIN, {"ids": ids, "counts": counts, "uncounted": uncounted})
        return [None] * len(settled)


def _ids(settled: Iterable[Settled], ends: set[End]) -> list[UUID]:
    return sorted(one.letter.key.id for one in settled if one.end in ends)
