"""The mail source of signatures: mails that ask to confirm an attempt, its consents, or its withdrawal.

The attempt's own row says which mail is due and when; the skeleton is `kit/mail/source.py`. Each attempt has mails of
its own, and each client a limit of its own: so nobody uses up what is left for another.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.session import Database
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS
from app.kit.mail.source import LeasedMails, MailDraft, MailRow, RecipientLimit, Taken
from app.kit.mail.templates import MailTemplates
from app.kit.text.locales import negotiate
from app.people.consents.words import ConsentInWords, in_words
from app.people.schemas import Consent
from app.petitions.models import Petition, PetitionText
from app.signatures.service import LINK_LASTS
from app.signatures.settings import SigningSettings
from app.signatures.signing.prepare import consents_of
from app.signatures.signing.sealing import Personal, unseal, write_link

# An attempt that stands, and one that waits: it can come to stand between two of these statements, so what has been
# claimed is settled in both.
_TABLES = ("signatures", "signature_attempts")
# What has had all its mails gets no further one. The limit is written into the statement: of a parameter the
# planner expects a tenth of the table, and reads all of it. Materialized, so that what is due is looked up once: a plan
# may run a subquery for each row, each time claiming others.
_CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT petition_id, signer, id, coalesce(mail_count, 0) < CAST(:most AS integer) AS goes, due_mail AS kind,
            mail_due_at = mail_since AS first
        FROM {table}
        WHERE mail_due_at <= now() ORDER BY mail_due_at LIMIT {limit:d} FOR UPDATE SKIP LOCKED
    )
    UPDATE {table} s SET
        mail_due_at = CASE WHEN due.goes THEN now() + make_interval(secs => CAST(:lease AS integer)) END,
        mail_since = CASE WHEN due.goes THEN s.mail_since END,
        due_mail = CASE WHEN due.goes THEN s.due_mail END,
        mail_count = coalesce(s.mail_count, 0) + CAST(due.goes AS integer)
    FROM due WHERE s.petition_id = due.petition_id AND s.signer = due.signer AND s.id = due.id
    RETURNING s.petition_id, s.signer, s.id, due.kind, s.mail_count, s.mail_since, s.sealed, due.first, due.goes,
        s.address_digest, s.partner_id
"""
# Only if it is still the mail that was claimed: another may be due by now.
_STILL = """
    unnest(
        CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]), CAST(:ids AS uuid[]), CAST(:counts AS smallint[]),
        CAST(:since AS timestamptz[])
    ) AS n (petition_id, signer, id, mail_count, mail_since)
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer AND s.id = n.id
    AND s.mail_count = n.mail_count AND s.mail_since = n.mail_since
"""
_DONE = f"UPDATE {{table}} s SET mail_due_at = NULL, mail_since = NULL, due_mail = NULL FROM {_STILL}"
_LOCK = f"SELECT s.id FROM {{table}} s, {_STILL} ORDER BY s.petition_id, s.signer, s.id FOR NO KEY UPDATE OF s"
# Their people's rows, whichever attempt stands: while they are locked none takes another's place.
_LOCK_PEOPLE = text("""
    SELECT FROM signatures s WHERE (s.petition_id, s.signer) IN (
        SELECT * FROM unnest(CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]))
    ) ORDER BY s.petition_id, s.signer FOR NO KEY UPDATE
""")
# A quarter of the time it has been due: a new mail is tried again soon, an old one seldom.
_PAUSE = "least(greatest((now() - s.mail_since) / 4, interval '1 minute'), interval '6 hours')"
_LIVES = "s.mail_since > now() - make_interval(days => CAST(:days AS integer))"
_RESCHEDULE = f"""
    UPDATE {{table}} s SET mail_count = s.mail_count - CAST(:refund AS smallint),
        mail_due_at = CASE WHEN {_LIVES} THEN now() + {_PAUSE} END,
        mail_since = CASE WHEN {_LIVES} THEN s.mail_since END,
        due_mail = CASE WHEN {_LIVES} THEN s.due_mail END
    FROM {_STILL} RETURNING s.id, s.mail_due_at IS NULL AS is_over
"""
# Due anew in an hour, as if it had not been due before.
_POSTPONE = f"""
    UPDATE {{table}} s SET mail_count = s.mail_count - 1,
        mail_due_at = now() + interval '1 hour', mail_since = now() + interval '1 hour'
    FROM {_STILL}
"""
# When the mail that is due longest became due; NULL when none is.
OLDEST_DUE = text("""
    SELECT least(
        (SELECT mail_due_at FROM signatures WHERE mail_due_at <= now() ORDER BY mail_due_at LIMIT 1),
        (SELECT mail_due_at FROM signature_attempts WHERE mail_due_at <= now() ORDER BY mail_due_at LIMIT 1)
    )
""")


class _Petition(NamedTuple):
    """What mails say of a petition: its slug, and its titles by locale, its own first."""

    slug: str
    titles: dict[str, str]

    def title(self, locale: str) -> str:
        own = next(iter(self.titles))
        return self.titles[negotiate(locale, list(self.titles), own)]


class _Opened(NamedTuple):
    """A claimed attempt, opened, and the consents that came with it."""

    row: MailRow
    personal: Personal
    consents: list[Consent]


class _Known(NamedTuple):
    """All that is known of what the mails of one claim are about. `consents`: in words, by the attempt's id."""

    petitions: dict[UUID, _Petition]
    consents: dict[UUID, list[ConsentInWords]]


class SignatureMails(LeasedMails[_Opened, _Known]):
    """The mail source of signatures, one per worker."""

    name = "signatures"

    def __init__(
        self, database: Database, settings: SigningSettings, templates: MailTemplates, limit: RecipientLimit
    ) -> None:
        """With the limiter of all the worker's mails."""
        super().__init__(database, settings, templates, limit)
        self._petition_link = settings.petition_link

    async def _take(self, session: AsyncSession, limit: int, moment: datetime) -> Taken:  # noqa: ARG002
        values = {"most": MOST_SENDINGS, "lease": LEASE_SECONDS}
        rows: list[MailRow] = []
        # Half of the places for those that wait beside another: neither waits until all of the others are sent.
        for table, most in (("signature_attempts", limit // 2), ("signatures", limit)):
            claim = text(_CLAIM.format(table=table, limit=most - len(rows)))
            rows += (await session.execute(claim, values)).all()
        ended = [row for row in rows if not row.goes]
        return Taken(
            [row for row in rows if row.goes],
            given_up=[row for row in ended if not row.first],
            # Never tried: five others were sent.
            not_needed=[row for row in ended if row.first],
        )

    def _open(self, row: MailRow) -> _Opened:
        personal = unseal(self._ring, row.petition_id, row.signer, row.sealed)
        return _Opened(row, personal, consents_of(personal))

    async def _look_up(
        self,
        session: AsyncSession,
        opened: Sequence[_Opened],
        moment: datetime,  # noqa: ARG002
    ) -> _Known:
        words = await in_words(session, [one.consents for one in opened])
        petitions = await _petitions(session, {one.row.petition_id for one in opened})
        return _Known(petitions, {one.row.id: said for one, said in zip(opened, words, strict=True)})

    def _draft(self, opened: _Opened, known: _Known) -> MailDraft:
        row, personal, _ = opened
        petition = known.petitions[row.petition_id]
        token = write_link(self._ring, row.petition_id, row.signer, row.id, now())
        values = {
            # Nobody has proven the name yet: a mail does not say what a stranger may have typed.
            "given_name": "",
            "petition_title": petition.title(personal.locale),
            "link": self._settings.link("withdraw" if row.kind == "confirm_withdrawal" else "confirm", token),
            "withdraw_link": self._settings.link("withdraw", token),
            "days": str(LINK_LASTS.days),
            "petition_link": self._petition_link.replace("{petition}", petition.slug),
            "consents": known.consents[row.id],
        }
        # The same when it has to be sent again, another when it is asked for again.
        message_id = f"{row.id.hex}.{int(row.mail_since.timestamp() * 1000):x}"
        return MailDraft(personal.email, personal.locale, values, message_id, template_locales=petition.titles)

    def _is_limited(self, row: MailRow) -> bool:
        return bool(row.first)

    def _client_of(self, row: MailRow) -> bytes:
        """Who caused the mail: a client address, as its digest, or the partner that brought the attempt."""
        return row.address_digest or (row.partner_id.bytes if row.partner_id else b"")

    async def _postpone(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        await self._lock_due(session, rows)
        for table in _TABLES:
            await session.execute(text(_POSTPONE.format(table=table)), _columns(rows))

    async def _done(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        for table in _TABLES:
            await session.execute(text(_DONE.format(table=table)), _columns(rows))

    async def _reschedule(
        self, session: AsyncSession, rows: Sequence[MailRow], *, refund_attempt: bool
    ) -> Collection[UUID]:
        """For as long as links last."""
        values = _columns(rows) | {"refund": int(refund_attempt), "days": LINK_LASTS.days}
        over: list[UUID] = []
        for table in _TABLES:
            settled = await session.execute(text(_RESCHEDULE.format(table=table)), values)
            over += [row.id for row in settled if row.is_over]
        return over

    async def _lock_due(self, session: AsyncSession, rows: Sequence[MailRow]) -> Collection[UUID]:
        people = {name: _columns(rows)[name] for name in ("petition_ids", "signers")}
        await session.execute(_LOCK_PEOPLE, people)
        locked: list[UUID] = []
        for table in _TABLES:
            locked += (await session.scalars(text(_LOCK.format(table=table)), _columns(rows))).all()
        return locked


def _columns(rows: Sequence[MailRow]) -> dict[str, Any]:
    """The claimed rows as arrays, in the order of their keys, in which everybody locks them."""
    ordered = sorted(rows, key=lambda row: (row.petition_id, row.signer, row.id))
    return {
        "petition_ids": [row.petition_id for row in ordered],
        "signers": [row.signer for row in ordered],
        "ids": [row.id for row in ordered],
        "counts": [row.mail_count for row in ordered],
        "since": [row.mail_since for row in ordered],
    }


async def _petitions(session: AsyncSession, petition_ids: Collection[UUID]) -> dict[UUID, _Petition]:
    own = select(Petition.id, Petition.slug, Petition.locale, Petition.title).where(Petition.id.in_(petition_ids))
    found = {id_: _Petition(slug, {locale: title}) for id_, slug, locale, title in await session.execute(own)}
    further = select(PetitionText.petition_id, PetitionText.locale, PetitionText.title)
    for id_, locale, title in await session.execute(further.where(PetitionText.petition_id.in_(petition_ids))):
        found[id_].titles[locale] = title
    return found
