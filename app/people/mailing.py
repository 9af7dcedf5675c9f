"""The mail source of this room: links to sign in by, and a welcome to whoever has agreed to news.

A row of `mails` says that a mail is due, and goes when it is sent; the skeleton is `kit/mail/source.py`. What a mail
says is put together when it is claimed, for a day may have passed: nobody is welcomed who has changed their mind, and
no link is sent that has expired.

A link goes to everybody who is asked for, and nothing about it depends on whether they are known: not the words, the
language, the address it goes to, nor what is looked up for it. So nobody learns who is known, whether they read the
mailbox, run the mail server or watch the wire. It goes once, however often it is asked for: while one that was mailed
is good and unused, no other is sent. A device on which the person has signed in before has links of its own, which
strangers cannot use up.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealed_records import RecordUnreadableError
from app.kit.database.session import Database
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS
from app.kit.mail.source import LeasedMails, MailDraft, MailRow, RecipientLimit, Taken
from app.kit.mail.templates import MailTemplates
from app.organizations.models import Organization
from app.people import queries
from app.people.account import sign_ins
from app.people.models import MAIL_SOURCE, Consent
from app.people.sealing import (
    Details,
    SignInToken,
    open_details,
    open_mail,
    write_sign_in_token,
    write_unsubscribe_token,
)
from app.people.settings import PeopleSettings

# A welcome that nobody's server takes for so long is no longer one.
_LIVES = timedelta(days=3)
# One whose recipient has had enough mails for an hour waits as long.
_POSTPONED = timedelta(hours=1)
# Sign-in links first, for they do not last: if a worker is killed, another tries while they do. If a mail server takes
# more than a minute for the one in hand, another worker may send that one too, under the same Message-ID.
_LEASES = {"sign_in": timedelta(minutes=2), "welcome": timedelta(seconds=LEASE_SECONDS)}
_GIVE_UP = text("""
    DELETE FROM mails WHERE due_at <= :now AND (mail_count >= :most OR created_at < :oldest)
    RETURNING id, kind, mail_count
""")
# The link `{link}` stands for the wish `{wish}` (both are sign-ins): it was mailed not long ago, and is not used up.
# What strangers have asked for does not stand for what a known device asks for.
_STANDS_FOR = """
    {link}.signer = {wish}.signer AND {link}.id <> {wish}.id AND {link}.mailed_at > :mailed_since
    AND {link}.used_at IS NULL AND ({link}.known_device OR {wish}.known_device IS NOT TRUE)
"""
_HAS_LINK = f"EXISTS (SELECT FROM sign_ins AS l WHERE {_STANDS_FOR.format(link='l', wish='w')})"
# Wishes for a link that need no mail of their own, or no more. Not those under way, which are not due.
_DROP = text(f"""
    DELETE FROM mails WHERE id = ANY (ARRAY(
        SELECT m.id FROM mails AS m JOIN sign_ins AS w ON w.id = m.id
        WHERE m.kind = 'sign_in' AND m.due_at <= :now
        AND (w.expires_at <= :now OR w.used_at IS NOT NULL OR {_HAS_LINK})
        ORDER BY m.due_at LIMIT :limit FOR UPDATE OF m SKIP LOCKED
    )) RETURNING id, kind, mail_count
""")
# Of one person's wishes the first is mailed, and the others wait until it has been: should the mail server not take it,
# the next has its turn. One that was tried more than once holds up no other: maybe nobody can read it.
_IS_NEXT = f"""
    NOT {_HAS_LINK} AND NOT EXISTS (
        SELECT FROM mails AS o JOIN sign_ins AS p ON p.id = o.id
        WHERE o.signer = m.signer AND o.kind = m.kind AND o.id < m.id AND o.mail_count < 2
        AND (p.known_device OR w.known_device IS NOT TRUE)
    )
"""
_CLAIM_LINKS = text(f"""
    UPDATE mails SET mail_count = mail_count + 1, due_at = :lease WHERE id = ANY (ARRAY(
        SELECT m.id FROM mails AS m LEFT JOIN sign_ins AS w ON w.id = m.id
        WHERE m.kind = 'sign_in' AND m.due_at <= :now AND {_IS_NEXT}
        ORDER BY m.due_at LIMIT :limit FOR UPDATE OF m SKIP LOCKED
    )) RETURNING id, kind, signer, sealed, mail_count
""")
_MAILED = text("UPDATE sign_ins SET mailed_at = :now WHERE id = ANY(:ids)")
# An array, made once: a plan may run a subquery of IN for each row, each time claiming others (seen: LIMIT 1, 5 rows).
_CLAIM_WELCOMES = text("""
    UPDATE mails SET mail_count = mail_count + 1, due_at = :lease WHERE id = ANY (ARRAY(
        SELECT id FROM mails WHERE kind = 'welcome' AND due_at <= :now
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )) RETURNING id, kind, signer, sealed, mail_count
""")
_DELETE = text("DELETE FROM mails WHERE id = ANY(:ids)")
_LOCK = text("SELECT id FROM mails WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
# Only as many as were claimed for the first time: to be claimed again as if they had not been.
_POSTPONE = text("UPDATE mails SET mail_count = 0, due_at = :later WHERE id = ANY(:ids) AND mail_count = 1")
# Only if it has not been claimed again. A new mail is tried again soon, an old one seldom. A welcome keeps a count of
# one, for it has been counted against its recipient's limit.
_RESCHEDULE = text("""
    UPDATE mails AS m SET mail_count = greatest(n.mail_count - :refund, CAST(m.kind = 'welcome' AS integer)),
        due_at = now() + least(greatest((now() - m.created_at) / 4, interval '30 seconds'), interval '6 hours')
    FROM unnest(CAST(:ids AS uuid[]), CAST(:counts AS smallint[])) AS n (id, mail_count)
    WHERE m.id = n.id AND m.mail_count = n.mail_count
""")
# At once: whoever asks a thousand times keeps no other mail waiting for long.
_MOST_DROPPED = 500
# When the mail that is due longest became due; NULL when none is.
OLDEST_DUE = text(f"SELECT min(due_at) FROM mails WHERE kind IN {tuple(_LEASES)} AND due_at <= now()")


class _Opened(NamedTuple):
    """A claimed mail, opened. `about`: the sign-in, or the organization that welcomes."""

    id: UUID
    kind: str
    signer: bytes
    about: UUID
    email: str
    locale: str


class _Known(NamedTuple):
    """All that is known of what the mails of one claim are about."""

    people: dict[bytes, bytes]
    sign_ins: set[UUID]
    consents: dict[tuple[bytes, UUID, str], Consent]
    organizations: dict[UUID, Organization]


class PeopleMails(LeasedMails[_Opened, _Known]):
    """The mail source of this room, one per worker."""

    name = MAIL_SOURCE

    def __init__(
        self, database: Database, settings: PeopleSettings, templates: MailTemplates, limit: RecipientLimit
    ) -> None:
        """With the limiter of all the worker's mails."""
        super().__init__(database, settings, templates, limit)

    async def _take(self, session: AsyncSession, limit: int, moment: datetime) -> Taken:
        """Links to sign in come first: they are good for minutes. Otherwise the older mail goes first."""
        values = {"now": moment, "most": MOST_SENDINGS, "oldest": moment - _LIVES}
        given_up = (await session.execute(_GIVE_UP, values)).all()
        recent = {"now": moment, "mailed_since": moment - sign_ins.LIFETIME}
        dropped = (await session.execute(_DROP, recent | {"limit": _MOST_DROPPED})).all()
        values = recent | {"lease": moment + _LEASES["sign_in"], "limit": limit}
        links = sorted((await session.execute(_CLAIM_LINKS, values)).all(), key=_id)
        values = {"now": moment, "lease": moment + _LEASES["welcome"], "limit": limit - len(links)}
        welcomes = sorted((await session.execute(_CLAIM_WELCOMES, values)).all(), key=_id)
        return Taken([*links, *welcomes], given_up, not_needed=dropped)

    def _open(self, row: MailRow) -> _Opened:
        content = open_mail(self._ring, row.id, row.sealed)
        about = content.sign_in if row.kind == "sign_in" else content.organization
        if about is None:
            raise RecordUnreadableError
        return _Opened(row.id, row.kind, row.signer, about, content.email or "", content.locale or "")

    async def _look_up(self, session: AsyncSession, opened: Sequence[_Opened], moment: datetime) -> _Known:
        """In as many statements for many mails as for one. For a link, nothing of the person is looked up."""
        welcomes = [one for one in opened if one.kind == "welcome"]
        wishes = {one.about for one in opened if one.kind == "sign_in"}
        return _Known(
            people=await queries.sealed_of(session, {one.signer for one in welcomes}),
            sign_ins=await queries.working_sign_ins(session, wishes, moment),
            consents=await queries.latest_of_all(session, {one.signer for one in welcomes}),
            organizations=await queries.organizations_by_id(session, {one.about for one in welcomes}),
        )

    def _draft(self, opened: _Opened, known: _Known) -> MailDraft | None:
        return self._sign_in(opened, known) if opened.kind == "sign_in" else self._welcome(opened, known)

    def _sign_in(self, one: _Opened, known: _Known) -> MailDraft | None:
        if one.about not in known.sign_ins:
            return None
        token = write_sign_in_token(self._ring, SignInToken(one.about, one.email, one.locale))
        minutes = str(int(sign_ins.LIFETIME.total_seconds()) // 60)
        values = {"link": self._settings.link("sign_in", token), "minutes": minutes}
        return MailDraft(one.email, one.locale, values, one.id.hex)

    def _welcome(self, one: _Opened, known: _Known) -> MailDraft | None:
        person = self._details(one, known)
        latest = known.consents.get((one.signer, one.about, "news"))
        organization = known.organizations.get(one.about)
        if person is None or organization is None or latest is None or not latest.given:
            return None
        token = write_unsubscribe_token(self._ring, one.signer, one.about)
        link = f"{self._settings.public_url}/unsubscribe?token={token}"
        values = {
            # A mail greets by no name that anybody may have typed.
            "given_name": (person.given_name or "") if person.proven else "",
            "organization_name": organization.name,
            # Else somebody else has said it: a partner that posts, or an import.
            "proven": latest.proven,
            "unsubscribe_link": link,
        }
        return MailDraft(person.email, person.locale or "", values, one.id.hex, link)

    def _details(self, one: _Opened, known: _Known) -> Details | None:
        sealed = known.people.get(one.signer)
        return open_details(self._ring, one.signer, sealed) if sealed else None

    def _is_limited(self, row: MailRow) -> bool:
        """A welcome is counted when it is claimed for the first time, and never again; a link to sign in is not."""
        return bool(row.kind == "welcome" and row.mail_count == 1)

    async def _lock_due(self, session: AsyncSession, rows: Sequence[MailRow]) -> Collection[UUID]:
        return (await session.scalars(_LOCK, {"ids": [row.id for row in rows]})).all()

    def _lease_of(self, row: MailRow) -> float:
        return _LEASES[row.kind].total_seconds()

    async def _postpone(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        await session.execute(_POSTPONE, {"ids": [row.id for row in rows], "later": now() + _POSTPONED})

    async def _handed_over(self, session: AsyncSession, rows: Sequence[MailRow], moment: datetime) -> None:
        ids = sorted(row.id for row in rows if row.kind == "sign_in")
        await session.execute(_MAILED, {"ids": ids, "now": moment.replace(microsecond=0)})

    async def _done(self, session: AsyncSession, rows: Sequence[MailRow]) -> None:
        await session.execute(_DELETE, {"ids": sorted(row.id for row in rows)})

    async def _reschedule(
        self, session: AsyncSession, rows: Sequence[MailRow], *, refund_attempt: bool
    ) -> Collection[UUID]:
        ordered = sorted(rows, key=_id)
        values = {"ids": [row.id for row in ordered], "counts": [row.mail_count for row in ordered]}
        await session.execute(_RESCHEDULE, values | {"refund": int(refund_attempt)})
        # Which of them are too old is seen when they are due again.
        return ()


def _id(row: MailRow) -> UUID:
    id_: UUID = row.id
    return id_
