"""Mails about signatures: asking to confirm, and telling whoever signs again.

The signature itself says which mail is due and when. It is claimed, counted and given a lease in one transaction; the
mail is made and sent outside of any; how it ended is written down in another (`kit/dispatch.py`).
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.db import Database
from app.kit.dispatch import LEASE_SECONDS, MOST_SENDINGS, End, Letter, Settled
from app.kit.limiting import Limiter
from app.kit.locales import negotiate
from app.kit.logs import failure_of, log
from app.kit.mail import Mail, MailInvalid, Sender
from app.kit.sealing import SealBrokenError
from app.kit.settings import Settings
from app.kit.texts import TextBroken, Texts
from app.petitions.models import Petition, PetitionText
from app.signatures.sealing import Personal, unseal, write_link
from app.signatures.service import LINK_LASTS

# Whoever has had all their mails gets no further one; the row is let go. The limit is written into the statement: of a
# parameter the planner expects a tenth of the table, and reads all of it.
_CLAIM = """
    UPDATE signatures s SET
        mail_due_at = CASE WHEN due.goes THEN now() + make_interval(secs => CAST(:lease AS integer)) END,
        due_mail = CASE WHEN due.goes THEN s.due_mail END,
        mail_count = coalesce(s.mail_count, 0) + CAST(due.goes AS integer)
    FROM (
        SELECT petition_id, signer, coalesce(mail_count, 0) < CAST(:most AS integer) AS goes FROM signatures
        WHERE mail_due_at <= now() ORDER BY mail_due_at LIMIT {limit:d} FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE s.petition_id = due.petition_id AND s.signer = due.signer
    RETURNING s.petition_id, s.signer, s.id, s.due_mail, s.mail_count, s.signed_at, s.sealed
"""
# Only if it is still the mail that was claimed: another may be due by now.
_STILL = """
    FROM unnest(
        CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]), CAST(:ids AS uuid[]), CAST(:counts AS smallint[])
    ) AS n (petition_id, signer, id, mail_count)
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer AND s.id = n.id AND s.mail_count = n.mail_count
"""
_DONE = text(f"UPDATE signatures s SET mail_due_at = NULL, due_mail = NULL {_STILL}")
# A tenth of the signature's age: a new one is tried again soon, an old one seldom.
_PAUSE = "least(greatest((now() - s.signed_at) / 10, interval '1 minute'), interval '6 hours')"
_LIVES = "s.signed_at > now() - make_interval(days => CAST(:days AS integer))"
_AGAIN = text(f"""
    UPDATE signatures s SET mail_count = s.mail_count - CAST(:uncounted AS smallint),
        mail_due_at = CASE WHEN {_LIVES} THEN now() + {_PAUSE} END,
        due_mail = CASE WHEN {_LIVES} THEN s.due_mail END
    {_STILL}
""")


class _Petition(NamedTuple):
    """What mails say of a petition: its titles by locale, its own first."""

    slug: str
    titles: dict[str, str]

    def title(self, locale: str) -> str:
        own = next(iter(self.titles))
        return self.titles[negotiate(locale, list(self.titles), own)]


class SignatureMails:
    """The source of these mails, one per worker."""

    name = "signatures"

    def __init__(self, database: Database, settings: Settings, texts: Texts, limiter: Limiter) -> None:
        self._database = database
        self._ring = settings.key_ring
        self._settings = settings
        self._texts = texts
        self._limiter = limiter
        self._domain = Sender.parse(settings.mail_from).domain

    async def claim(self, limit: int) -> Sequence[Letter]:
        """Up to so many letters; there is nothing in one whose reader gets too many.

        One that cannot be read or worded stays for its lease: the operator may have repaired the key or the text by
        then. It counts as a sending all the same, so that it does not stay for ever.
        """
        values = {"most": MOST_SENDINGS, "lease": LEASE_SECONDS}
        async with self._database.transaction() as session:
            claimed = await session.execute(text(_CLAIM.format(limit=limit)), values)
            rows = [row for row in claimed if row.due_mail]
            petitions = await _petitions(session, {row.petition_id for row in rows})
        letters = []
        for row in rows:
            try:
                letters.append(Letter(row, await self._mail(row, petitions[row.petition_id])))
            except (SealBrokenError, TextBroken) as error:
                log.error("mail cannot be written", **failure_of(error))
        return letters

    async def _mail(self, row: Any, petition: _Petition) -> Mail | None:
        within = await self._limiter.hit(f"{self._settings.mails_per_hour} per hour", "mail", row.signer)
        # Five are the most in any case: it is better to send one too many than to keep somebody from confirming.
        if not within and not self._limiter.lost:
            return None
        personal = unseal(self._ring, row.petition_id, row.signer, row.sealed)
        try:
            return self._written(row, personal, petition)
        except MailInvalid as error:
            log.error("mail cannot be written", **failure_of(error))
            return None

    def _written(self, row: Any, personal: Personal, petition: _Petition) -> Mail:
        token = write_link(self._ring, row.petition_id, row.signer, row.id, now())
        context = {
            "given_name": personal.given_name,
            "petition_title": petition.title(personal.locale),
            "link": self._settings.link("confirm", token),
            "days": str(LINK_LASTS.days),
            "petition_link": self._settings.petition_link.replace("{petition}", petition.slug),
        }
        words = self._texts.render(row.due_mail, personal.locale, context, otherwise=petition.titles)
        return Mail(
            recipient=personal.email,
            subject=words.subject,
            text=words.text,
            html=words.html,
            message_id=f"<{row.id.hex}.{row.mail_count}@{self._domain}>",
            locale=words.locale,
        )

    async def settle(self, settled: Sequence[Settled]) -> Sequence[None]:
        """Write down how these ended. What was not sent is due again after a while, for as long as links last."""
        async with self._database.transaction() as session:
            for statement, ends, uncounted in (
                (_DONE, {End.SENT, End.REFUSED}, 0),
                (_AGAIN, {End.LATER}, 1),
                (_AGAIN, {End.UNKNOWN}, 0),
            ):
                rows = sorted((s.letter.key for s in settled if s.end in ends), key=lambda row: row[:2])
                if rows:
                    more = {} if statement is _DONE else {"uncounted": uncounted, "days": LINK_LASTS.days}
                    await session.execute(statement, _columns(rows) | more)
        return [None] * len(settled)


def _columns(rows: Sequence[Any]) -> dict[str, Any]:
    return {
        "petition_ids": [row.petition_id for row in rows],
        "signers": [row.signer for row in rows],
        "ids": [row.id for row in rows],
        "counts": [row.mail_count for row in rows],
    }


async def _petitions(session: AsyncSession, petition_ids: Collection[UUID]) -> dict[UUID, _Petition]:
    own = select(Petition.id, Petition.slug, Petition.locale, Petition.title).where(Petition.id.in_(petition_ids))
    found = {id_: _Petition(slug, {locale: title}) for id_, slug, locale, title in await session.execute(own)}
    further = select(PetitionText.petition_id, PetitionText.locale, PetitionText.title)
    for id_, locale, title in await session.execute(further.where(PetitionText.petition_id.in_(petition_ids))):
        found[id_].titles[locale] = title
    return found
