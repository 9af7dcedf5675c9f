"""The consent ledger, append-only: for a person, an organization and a purpose, one of the entries counts.

That is the latest proven entry: one made on the person's own page, by the link in a mail, or with an attempt to sign
that its own mailed link has proven. What an organization has brought about itself is entered unproven, and counts only
when there is no proven entry. What nobody has proven or vouched for is not entered at all: it stays in the attempt.
The latest is the one decided last, not the one written last: an import may bring an old decision after a newer one.
`queries.PRECEDENCE` is this rule.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import delete, insert, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import this_second
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7_after, uuid7_of_second
from app.kit.database.outbox import NewMessage, publish
from app.people import queries
from app.people.account import service
from app.people.models import Consent, Contact, OutgoingMail
from app.people.queries import HAS_CONSENT_SQL, consenting, latest_of
from app.people.sealing import MailContent, seal_mail

__all__ = ["CONSENT_GIVEN", "HAS_CONSENT_SQL", "Entry", "consenting", "decide", "enter", "latest_of"]

# The outbox message, to the organization alone, of an entry that gives a consent with a signature.
CONSENT_GIVEN = "consent.given"

# The `page` of entries made on the person's own page.
OWN_PAGE = "me"

Key: TypeAlias = tuple[bytes, UUID, str]
# Purposes with details of their own, which are deleted with the consent.
_KEPT_FOR_A_PURPOSE = {"phone", "location"}
# The rank of an entry that has no id yet: it comes after all that have one.
_rank = attrgetter(*queries.PRECEDENCE[:-1])


class Entry(NamedTuple):
    """One decision. `page`: where it was made; `partner_id`: who brought it; `proven`: the person made it.

    `attempt_id`: the attempt to sign that it came with.
    """

    signer: bytes
    organization_id: UUID
    purpose: str
    given: bool
    text_id: UUID | None
    decided_at: datetime
    petition_id: UUID | None = None
    partner_id: UUID | None = None
    page: str | None = None
    proven: bool = True
    attempt_id: UUID | None = None

    @property
    def key(self) -> Key:
        """The person, the organization and the purpose: of the entries with one key, one counts."""
        return self.signer, self.organization_id, self.purpose


async def enter(session: AsyncSession, ring: KeyRing, entries: Sequence[Entry]) -> list[Entry]:
    """Append entries to the ledger; those by which a consent stands that did not stand before.

    A person's first consent ever to an organization's news queues a welcome mail. A proven withdrawal of the consent
    under which a phone number or a cell was kept deletes it in the same transaction. People with a row are locked, so
    that entries of one person come one after the other. Every consent given with a signature is published.
    """
    if not entries:
        return []
    signers = {entry.signer for entry in entries}
    await queries.locked(session, signers)
    before = await queries.latest_of_all(session, signers)
    greeted = await queries.ever_given(session, signers, "news")
    await _append(session, zip(_ids_of(entries, before), entries, strict=True))
    counting = [
        entry for key, entry in _counting(entries).items() if key not in before or _rank(before[key]) <= _rank(entry)
    ]
    given = [entry for entry in counting if entry.given and not (entry.key in before and before[entry.key].given)]
    await _welcome(session, ring, [entry for entry in given if (entry.signer, entry.organization_id) not in greeted])
    await _delete_kept_for(session, ring, [entry for entry in counting if entry.proven and not entry.given])
    await _delete_contacts(session, [entry for entry in counting if not entry.given])
    return given


async def _delete_contacts(session: AsyncSession, withdrawn: Iterable[Entry]) -> None:
    """Nothing is shown to an organization any more of whoever has taken the consent back."""
    keys = {(entry.organization_id, entry.signer) for entry in withdrawn if entry.purpose == "news"}
    if keys:
        await session.execute(delete(Contact).where(tuple_(Contact.organization_id, Contact.signer).in_(sorted(keys))))


async def decide(
    session: AsyncSession,
    ring: KeyRing,
    signer: bytes,
    organization_id: UUID,
    purpose: str,
    *,
    given: bool,
    text_id: UUID | None = None,
    page: str | None = None,
) -> Consent:
    """Append the person's own decision, made now, and return it: it is the entry that counts from now on."""
    await queries.locked(session, [signer])
    latest = (await latest_of(session, signer)).get((organization_id, purpose))
    # Not before the entry it follows, even if that one came from a clock that is ahead.
    decided_at = max(this_second(), latest.decided_at) if latest else this_second()
    await enter(session, ring, [Entry(signer, organization_id, purpose, given, text_id, decided_at, page=page)])
    return (await latest_of(session, signer))[organization_id, purpose]


def _counting(entries: Iterable[Entry]) -> dict[Key, Entry]:
    """Of these entries, the one that counts for each key."""
    counting: dict[Key, Entry] = {}
    for entry in entries:
        other = counting.get(entry.key)
        if other is None or _rank(other) <= _rank(entry):
            counting[entry.key] = entry
    return counting


def _ids_of(entries: Iterable[Entry], before: Mapping[Key, Consent]) -> Iterator[UUID]:
    """An id for each, above that of the entry it follows: of two decisions of one second the one entered later counts.

    Times do not tell them apart, and the ids of two processes are in no order within a second.
    """
    highest = {key: entry.id for key, entry in before.items()}
    for entry in entries:
        former = highest.get(entry.key)
        highest[entry.key] = uuid7_after(former) if former else uuid7_of_second()
        yield highest[entry.key]


async def _append(session: AsyncSession, entries: Iterable[tuple[UUID, Entry]]) -> None:
    moment = this_second()
    rows = list(entries)
    await session.execute(
        insert(Consent), [{"id": id_, "created_at": moment, **entry._asdict()} for id_, entry in rows]
    )
    messages = [
        NewMessage(CONSENT_GIVEN, {"consent_id": str(id_)}, entry.organization_id)
        for id_, entry in rows
        if entry.given and entry.petition_id is not None
    ]
    await publish(session, messages)


async def _welcome(session: AsyncSession, ring: KeyRing, given: Iterable[Entry]) -> None:
    rows = [
        _mail(ring, entry.signer, "welcome", MailContent(organization=entry.organization_id))
        for entry in given
        if entry.purpose == "news"
    ]
    if rows:
        await session.execute(insert(OutgoingMail), rows)


def _mail(ring: KeyRing, signer: bytes, kind: str, content: MailContent) -> dict[str, object]:
    id_ = uuid7_of_second()
    return {"id": id_, "kind": kind, "signer": signer, "sealed": seal_mail(ring, id_, content)}


async def _delete_kept_for(session: AsyncSession, ring: KeyRing, withdrawn: Iterable[Entry]) -> None:
    kept = [entry for entry in withdrawn if entry.purpose in _KEPT_FOR_A_PURPOSE]
    if not kept:
        return
    movement = await queries.movement_id(session)
    for signer in sorted({entry.signer for entry in kept if entry.organization_id == movement}):
        purposes = {entry.purpose for entry in kept if (entry.signer, entry.organization_id) == (signer, movement)}
        await service.delete_kept_for(session, ring, signer, purposes)
