"""Data rights: the export of all personal data (GDPR, articles 15 and 20), and the erasure (article 17)."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.outbox import NewMessage, publish
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.mail import failures
from app.kit.room_interface import ErasureChoice, PersonalDataStore
from app.people import queries
from app.people.models import MAIL_SOURCE, Consent, Contact, OutgoingMail, Person, PersonSession, SignIn
from app.people.presenters import show_consents
from app.people.pseudonyms import person_id, signature_id
from app.people.sealing import open_contact, open_details, open_session

# In this order: the deletion waits for a sign-in being used and a session that is writing, and deletes what they wrote.
# Their mails come after these.
_TABLES = (SignIn, PersonSession, Person, Contact)
PERSON_ERASED = "person.erased"


async def export(
    session: AsyncSession, ring: KeyRing, signer: bytes, stores: Sequence[PersonalDataStore]
) -> dict[str, Any]:
    """Everything that is kept of a person, as JSON with ISO 8601 times."""
    entries = await session.scalars(queries.entries_of(signer).order_by(Consent.id))
    shown = await show_consents(session, signer, entries.all())
    return {
        "exported_at": now().isoformat(),
        "person": await _person(session, ring, signer),
        "consents": [view.model_dump(mode="json") for view in shown],
        "contacts": await _contacts(session, ring, signer),
        "sessions": await _sessions(session, ring, signer),
        "sign_ins": await _rows(
            session, SignIn, signer, ("id", "asked_at", "expires_at", "mailed_at", "known_device", "used_at")
        ),
        "waiting_mails": await _rows(
            session, OutgoingMail, signer, ("id", "kind", "created_at", "due_at", "mail_count")
        ),
        **{store.name: await store.export(session, ring, signer) for store in stores},
    }


async def _person(session: AsyncSession, ring: KeyRing, signer: bytes) -> dict[str, Any] | None:
    row = await session.get(Person, signer, populate_existing=True)
    if row is None:
        return None
    times = {"created_at": row.created_at, "updated_at": row.updated_at, "looked_at": row.looked_at}
    try:
        return asdict(open_details(ring, signer, row.sealed)) | times
    except SealBrokenError as error:
        # The rest of the export does not depend on it.
        log.error("a person cannot be read", **failure_of(error))
        return {"unreadable": True} | times


async def _contacts(session: AsyncSession, ring: KeyRing, signer: bytes) -> list[dict[str, Any]]:
    """What each organization is shown of a person."""
    query = select(Contact.organization_id, Contact.sealed).where(Contact.signer == signer)
    rows = (await session.execute(query.order_by(Contact.organization_id))).all()
    names = await queries.organizations_by_id(session, {organization_id for organization_id, _ in rows})
    return [
        {"organization": names[organization_id].slug, **_shown(ring, organization_id, signer, sealed)}
        for organization_id, sealed in rows
    ]


def _shown(ring: KeyRing, organization_id: UUID, signer: bytes, sealed: bytes) -> dict[str, Any]:
    try:
        return asdict(open_contact(ring, organization_id, signer, sealed))
    except SealBrokenError as error:
        log.error("a contact cannot be read", **failure_of(error))
        return {"unreadable": True}


_SESSION = ("id", "created_at", "last_used_at", "expires_at", "ended_at", "sealed")


async def _sessions(session: AsyncSession, ring: KeyRing, signer: bytes) -> list[dict[str, Any]]:
    """A person's sessions, each with the address and locale it was asked for with."""
    rows = await _rows(session, PersonSession, signer, _SESSION)
    return [row | _asked_with(ring, row["id"], row.pop("sealed")) for row in rows]


def _asked_with(ring: KeyRing, session_id: UUID, sealed: bytes | None) -> dict[str, Any]:
    try:
        details = open_session(ring, session_id, sealed) if sealed else None
    except SealBrokenError as error:
        log.error("a session cannot be read", **failure_of(error))
        return {"unreadable": True}
    return {"email": details.email, "locale": details.locale} if details else {}


async def _rows(
    session: AsyncSession, table: type[PersonSession | SignIn | OutgoingMail], signer: bytes, names: Sequence[str]
) -> list[dict[str, Any]]:
    """What a person is shown of their rows. Digests are left out: they mean nothing to anybody."""
    query = select(*(getattr(table, name) for name in names)).where(table.signer == signer).order_by(table.id)
    return [dict(row) for row in (await session.execute(query)).mappings()]


async def erase(
    database: Database, ring: KeyRing, stores: Sequence[PersonalDataStore], signer: bytes, choice: ErasureChoice
) -> None:
    """Erase a person everywhere, and publish that to the organizations that may know them."""
    async with database.transaction() as session:
        await erase_in(session, ring, stores, signer, choice)


async def erase_in(
    session: AsyncSession, ring: KeyRing, stores: Sequence[PersonalDataStore], signer: bytes, choice: ErasureChoice
) -> None:
    """The same, with what this room keeps in a transaction of the caller's, to which more may belong.

    This room comes last. If anything fails before, the person still has a session to ask again.
    """
    for store in stores:
        await store.erase(signer, choice)
    for table in _TABLES:
        await session.execute(delete(table).where(table.signer == signer))
    mails = delete(OutgoingMail).where(OutgoingMail.signer == signer).returning(OutgoingMail.id)
    await failures.forget(session, MAIL_SOURCE, (await session.scalars(mails)).all())
    notified = await _erase_entries(session, signer)
    await publish(session, [erased(ring, organization_id, signer) for organization_id in sorted(notified)])


async def _erase_entries(session: AsyncSession, signer: bytes) -> set[UUID]:
    """Delete a person's ledger entries; the organizations they ever consented to, or that brought an entry."""
    entries = delete(Consent).where(Consent.signer == signer)
    rows = await session.execute(entries.returning(Consent.organization_id, Consent.given, Consent.partner_id))
    notified: set[UUID] = set()
    for organization_id, given, partner_id in rows:
        notified |= {organization_id} if given else set()
        notified |= {partner_id} if partner_id else set()
    return notified


def erased(ring: KeyRing, organization_id: UUID, signer: bytes, signature_ids: Iterable[UUID] = ()) -> NewMessage:
    """The outbox message of an erasure: when it was, the person by their pseudonym, and the signatures it brought."""
    content = {
        "person_id": person_id(ring, organization_id, signer),
        "signature_ids": [signature_id(ring, organization_id, id_) for id_ in signature_ids],
        "at": now().isoformat(),
    }
    return NewMessage(PERSON_ERASED, content, organization_id)
