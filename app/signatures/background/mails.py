"""Mails about signatures: asking to confirm, and telling whoever signs again.

The signature itself says which mail is due and when. It is claimed, counted and given a lease in one transaction; the
mail is made and sent outside of any; how it ended is written down in another (`kit/mail/sender.py`).
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import TextClause, select, text
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
from app.kit.text.locales import negotiate
from app.petitions.models import Petition, PetitionText
from app.signatures.service import LINK_LASTS
from app.signatures.signing.sealing import Personal, unseal, write_link

# Whoever has had all their mails gets no further one; the row is let go. The limit is written into the statement: of a
# parameter the planner expects a tenth of the table, and reads all of it.
_CLAIM = """
    UPDATE signatures s SET
        mail_due_at = CASE WHEN due.goes THEN now() + make_interval(secs => CAST(:lease AS integer)) END,
        mail_since = CASE WHEN due.goes THEN s.mail_since END,
        due_mail = CASE WHEN due.goes THEN s.due_mail END,
        mail_count = coalesce(s.mail_count, 0) + CAST(due.goes AS integer)
    FROM (
        SELECT petition_id, signer, coalesce(mail_count, 0) < CAST(:most AS integer) AS goes,
            mail_due_at = mail_since AS first
        FROM signatures
        WHERE mail_due_at <= now() ORDER BY mail_due_at LIMIT {limit:d} FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE s.petition_id = due.petition_id AND s.signer = due.signer
    RETURNING s.petition_id, s.signer, s.id, s.due_mail, s.mail_count, s.mail_since, s.sealed, due.first
"""
# Only if it is still the mail that was claimed: another may be due by now.
_STILL = """
    FROM unnest(
        CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]), CAST(:ids AS uuid[]), CAST(:counts AS smallint[]),
        CAST(:since AS timestamptz[])
    ) AS n (petition_id, signer, id, mail_count, mail_since)
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer AND s.id = n.id
    AND s.mail_count = n.mail_count AND s.mail_since = n.mail_since
"""
_DONE = text(f"UPDATE signatures s SET mail_due_at = NULL, mail_since = NULL, due_mail = NULL {_STILL}")
# A quarter of the time it has been due: a new mail is tried again soon, an old one seldom.
_PAUSE = "least(greatest((now() - s.mail_since) / 4, interval '1 minute'), interval '6 hours')"
_LIVES = "s.mail_since > now() - make_interval(days => CAST(:days AS integer))"
_AGAIN = text(f"""
    UPDATE signatures s SET mail_count = s.mail_count - CAST(:uncounted AS smallint),
        mail_due_at = CASE WHEN {_LIVES} THEN now() + {_PAUSE} END,
        mail_since = CASE WHEN {_LIVES} THEN s.mail_since END,
        due_mail = CASE WHEN {_LIVES} THEN s.due_mail END
    {_STILL}
""")
# Due anew in an hour, as if it had not been due before.
_POSTPONE = text(f"""
    UPDATE signatures s SET mail_count = s.mail_count - 1,
        mail_due_at = now() + interval '1 hour', mail_since = now() + interval '1 hour'
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

    def __init__(self, database: Database, settings: Settings, texts: MailTemplates, limiter: Limiter) -> None:
        self._database = database
        self._ring = settings.key_ring
        self._settings = settings
        self._texts = texts
        self._limiter = limiter
        self._domain = Sender.parse(settings.mail_from).domain

    async def claim(self, limit: int) -> Sequence[ClaimedMail]:
        """Up to so many letters; those of readers who get too many are due again in an hour.

        One that cannot be read or worded stays for its lease: the operator may have repaired the key or the text by
        then. It counts as a sending all the same, so that it does not stay for ever.
        """
        values = {"most": MOST_SENDINGS, "lease": LEASE_SECONDS}
        async with self._database.transaction() as session:
            claimed = await session.execute(text(_CLAIM.format(limit=limit)), values)
            rows = [row for row in claimed if row.due_mail]
            petitions = await _petitions(session, {row.petition_id for row in rows})
        going = await self._without_too_many(rows)
        letters = [self._letter(row, petitions[row.petition_id]) for row in going]
        return [letter for letter in letters if letter is not None]

    async def _without_too_many(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Those whose readers may be sent one more mail this hour; the others are due again when it is over."""
        over = [row for row in rows if row.first and not await self._is_within(row.signer)]
        if not over:
            return rows
        async with self._database.transaction() as session:
            await _write(session, _POSTPONE, over)
        late = {(row.petition_id, row.signer) for row in over}
        return [row for row in rows if (row.petition_id, row.signer) not in late]

    async def _is_within(self, signer: bytes) -> bool:
        # Five are the most in any case: without the store it is better to send one too many than none.
        within = await self._limiter.hit(f"{self._settings.mails_per_hour} per hour", "mail", signer)
        return within or self._limiter.lost

    def _letter(self, row: Any, petition: _Petition) -> ClaimedMail | None:
        try:
            personal = unseal(self._ring, row.petition_id, row.signer, row.sealed)
            return ClaimedMail(row, self._written(row, personal, petition))
        except MailInvalid as error:
            log.error("mail cannot be written", **failure_of(error))
            return ClaimedMail(row, None)
        except (SealBrokenError, MailTemplateError) as error:
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
            # The same when it has to be sent again, another when it is asked for again.
            message_id=f"<{row.id.hex}.{int(row.mail_since.timestamp() * 1000):x}@{self._domain}>",
            locale=words.locale,
        )

    async def settle(self, settled: Sequence[Result]) -> Sequence[None]:
        """Write down how these ended. What was not sent is due again after a while, for as long as links last."""
        of = {end: [one.letter.key for one in settled if one.end is end] for end in Outcome}
        async with self._database.transaction() as session:
            await _write(session, _DONE, of[Outcome.SENT] + of[Outcome.REFUSED])
            for end, uncounted in ((Outcome.LATER, 1), (Outcome.UNKNOWN, 0)):
                await _write(session, _AGAIN, of[end], uncounted=uncounted, days=LINK_LASTS.days)
        return [None] * len(settled)


async def _write(session: AsyncSession, statement: TextClause, rows: Sequence[Any], **values: int) -> None:
    """Run one of the statements on claimed rows, in the order of their keys."""
    if rows:
        await session.execute(statement, _columns(sorted(rows, key=lambda row: (row[0], row[1]))) | values)


def _columns(rows: Sequence[Any]) -> dict[str, Any]:
    return {
        "petition_ids": [row.petition_id for row in rows],
        "signers": [row.signer for row in rows],
        "ids": [row.id for row in rows],
        "counts": [row.mail_count for row in rows],
        "since": [row.mail_since for row in rows],
    }


async def _petitions(session: AsyncSession, petition_ids: Collection[UUID]) -> dict[UUID, _Petition]:
    own = select(Petition.id, Petition.slug, Petition.locale, Petition.title).where(Petition.id.in_(petition_ids))
    found = {id_: _Petition(slug, {locale: title}) for id_, slug, locale, title in await session.execute(own)}
    further = select(PetitionText.petition_id, PetitionText.locale, PetitionText.title)
    for id_, locale, title in await session.execute(further.where(PetitionText.petition_id.in_(petition_ids))):
        found[id_].titles[locale] = title
    return found
