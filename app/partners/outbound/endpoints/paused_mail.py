"""This room's mails: that an endpoint has been paused, to whom its organization named for it, once for each pause.

The endpoint's row says that it is due. It is claimed, counted and given a lease in one transaction, sent outside of
any, and not due any more when it is sent (`kit/mail/sender.py`).
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from app.kit.clock import now
from app.kit.crypto.sealing import SealBrokenError
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.mail.message import Mail, MailInvalid, Sender
from app.kit.mail.sender import LEASE_SECONDS, MOST_SENDINGS, ClaimedMail, Outcome, Result
from app.kit.mail.templates import MailTemplateError, MailTemplates
from app.kit.settings import Settings
from app.partners.outbound.endpoints.sealed_config import open_whereabouts

_LEASE = timedelta(seconds=LEASE_SECONDS)
_AGAIN = timedelta(minutes=5)
# Who has activated the endpoint meanwhile need not be told, and nobody more often than this.
_END = text("""
    UPDATE webhook_endpoints SET mail_due_at = NULL
    WHERE mail_due_at <= :now AND (state <> 'paused' OR mail_count >= :most)
""")
_CLAIM = text("""
    UPDATE webhook_endpoints AS e SET mail_count = e.mail_count + 1, mail_due_at = :lease
    FROM organizations o
    WHERE o.id = e.organization_id AND e.id IN (
        SELECT id FROM webhook_endpoints WHERE mail_due_at <= :now ORDER BY mail_due_at LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING e.id, e.label, e.sealed, e.mail_count, o.name
""")
# Only if it has not been claimed again, nor paused once more.
_SETTLE = text("""
    UPDATE webhook_endpoints AS e SET mail_due_at = n.due_at, mail_count = e.mail_count - n.uncounted
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:counts AS integer[]), CAST(:due AS timestamptz[]), CAST(:uncounted AS integer[])
    ) AS n (id, mail_count, due_at, uncounted)
    WHERE e.id = n.id AND e.mail_count = n.mail_count
""")


class Key(NamedTuple):
    """What a letter of this source is known by: its endpoint, and the how manieth sending it is."""

    id: UUID
    mail_count: int


class EndpointMails:
    """The source of these mails, one per worker."""

    name = "endpoints"

    def __init__(self, database: Database, settings: Settings, texts: MailTemplates) -> None:
        self._database = database
        self._ring = settings.key_ring
        self._texts = texts
        self._domain = Sender.parse(settings.mail_from).domain

    async def claim(self, limit: int) -> Sequence[ClaimedMail]:
        """Up to so many letters; there is nothing in one for whom no contact is named.

        One that cannot be read or worded stays for its lease, and counts: so it does not stay for ever.
        """
        moment = now()
        async with self._database.transaction() as session:
            await session.execute(_END, {"now": moment, "most": MOST_SENDINGS})
            rows = (await session.execute(_CLAIM, {"now": moment, "lease": moment + _LEASE, "limit": limit})).all()
        return [letter for letter in map(self._letter, rows) if letter]

    def _letter(self, row: Any) -> ClaimedMail | None:
        key = Key(row.id, row.mail_count)
        try:
            return ClaimedMail(key, self._mail(row))
        except MailInvalid as error:
            log.error("mail cannot be written", **failure_of(error))
            return ClaimedMail(key, None)
        except (SealBrokenError, MailTemplateError) as error:
            log.error("mail cannot be written", **failure_of(error))
            return None

    def _mail(self, row: Any) -> Mail | None:
        whereabouts = open_whereabouts(self._ring, row.id, row.sealed)
        if whereabouts.contact is None:
            return None
        values = {"organization_name": row.name, "label": row.label or "", "endpoint_id": str(row.id)}
        words = self._texts.render("endpoint_paused", whereabouts.contact_locale or "", values)
        return Mail(
            recipient=whereabouts.contact,
            subject=words.subject,
            text=words.text,
            html=words.html,
            message_id=f"<{row.id.hex}.paused.{now():%Y%m%d}@{self._domain}>",
            locale=words.locale,
        )

    async def settle(self, settled: Sequence[Result]) -> Sequence[None]:
        """Write down how these ended: what was sent or refused is due no more, the rest after a while."""
        ordered = sorted(settled, key=_id)
        values = {
            "ids": [one.letter.key.id for one in ordered],
            "counts": [one.letter.key.mail_count for one in ordered],
            "due": list(_due(ordered)),
            "uncounted": [int(one.end is Outcome.LATER) for one in ordered],
        }
        async with self._database.transaction() as session:
            await session.execute(_SETTLE, values)
        return [None] * len(settled)


def _id(settled: Result) -> UUID:
    id_: UUID = settled.letter.key.id
    return id_


def _due(settled: Iterable[Result]) -> Iterable[Any]:
    later = now() + _AGAIN
    for one in settled:
        yield None if one.end in {Outcome.SENT, Outcome.REFUSED} else later
