"""A person's own signatures: seeing them, withdrawing one, taking them along, and being forgotten."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.outbox import NewMessage, publish
from app.kit.database.session import Database
from app.kit.logs import failure_of, log
from app.kit.mail import failures
from app.kit.problems import NotFound
from app.kit.room_interface import ErasureChoice, Services
from app.kit.text.fields import as_id
from app.people.personal_data.data_rights import erased
from app.people.pseudonyms import own_signature_id
from app.signatures.background.mails import SignatureMails
from app.signatures.engine.erase import erase
from app.signatures.engine.transitions import Erasure, Withdrawal
from app.signatures.engine.writer import LaneWriter
from app.signatures.schemas import OwnSignatureView
from app.signatures.services import SigningServices
from app.signatures.signing.sealing import Personal, texts_of, unseal

Json = dict[str, Any]

# Looks the key up petition by petition: there is no other index of signers.
_OWN = text("""
    SELECT p.id AS petition_id, p.slug, p.title, s.id, s.signed_at,
        CASE WHEN s.held AND p.confirmation = 'none' THEN 'confirmed' ELSE coalesce(s.state_before, s.state)
        END AS state,
        s.country, s.region, s.source, s.group_id, s.event_id, s.sealed, s.disposable IS NOT NULL AS disposable,
        s.mail_count, s.partner_id, s.imported, s.proven,
        s.brought_by AS superseded_partner_ids, s.brought_ids AS superseded_attempt_ids
    FROM petitions p JOIN signatures s ON s.petition_id = p.id AND s.signer = :signer
    ORDER BY s.signed_at DESC, p.id
""")
_ATTEMPTS = text("""
    SELECT a.petition_id, p.slug, p.title, a.id, a.signed_at, coalesce(a.state_before, a.state) AS state,
        a.country, a.region, a.source, a.group_id, a.event_id, a.sealed, a.disposable IS NOT NULL AS disposable,
        a.mail_count, a.partner_id, a.imported, a.proven,
        NULL AS superseded_partner_ids, NULL AS superseded_attempt_ids
    FROM petitions p JOIN signature_attempts a ON a.petition_id = p.id AND a.signer = :signer
    ORDER BY a.signed_at DESC, a.id
""")
_HAS_ANY = text("""
    SELECT EXISTS (SELECT FROM petitions p JOIN signatures s ON s.petition_id = p.id AND s.signer = :signer)
""")


class SignatureNotFound(NotFound):
    """You have no signature that stands under this petition."""

    slug = "signature-not-found"


async def signatures_of(session: AsyncSession, ring: KeyRing, signer: bytes) -> list[OwnSignatureView]:
    """A person's signatures, newest first, in the states their signer knows: on hold and invalidated are not shown."""
    return [_view(ring, row) for row in await _rows(session, signer)]


def _view(ring: KeyRing, row: Any) -> OwnSignatureView:
    view = OwnSignatureView.model_validate(row)
    return view.model_copy(update={"id": UUID(own_signature_id(ring, view.id))})


async def _rows(session: AsyncSession, signer: bytes) -> Sequence[Any]:
    return (await session.execute(_OWN, {"signer": signer})).all()


async def _attempts(session: AsyncSession, signer: bytes) -> Sequence[Any]:
    """The other attempts to sign with this person's address."""
    return (await session.execute(_ATTEMPTS, {"signer": signer})).all()


async def withdraw(services: SigningServices, database: Database, signer: bytes, ref: str) -> None:
    """Withdraw one's signature under this petition; SignatureNotFound. Harmless to repeat."""
    id_ = as_id(ref)
    async with database.transaction() as session:
        rows = await _rows(session, signer)
    found = [row.petition_id for row in rows if row.petition_id == id_ or row.slug == ref]
    if not found:
        raise SignatureNotFound
    await services.engine.submit(Withdrawal(found[0], signer, None, proven=True))


@dataclass(frozen=True)
class SignatureStore:
    """What this room keeps of a person, to export and to erase (`PersonalDataStore`)."""

    services: Services
    name: str = "signatures"

    async def knows(self, session: AsyncSession, signer: bytes) -> bool:
        """Whether there is a signature of this person, in whatever state."""
        return bool(await session.scalar(_HAS_ANY, {"signer": signer}))

    async def export(self, session: AsyncSession, ring: KeyRing, signer: bytes) -> list[Json]:
        """Everything kept with this person's signatures, in clear."""
        rows = [_exported(ring, signer, row) for row in await _rows(session, signer)]
        others = [_exported(ring, signer, row) | {"waits": True} for row in await _attempts(session, signer)]
        return rows + others

    async def erase(self, signer: bytes, choice: ErasureChoice) -> None:
        """Destroy what can name this person; with `keep`, signatures that count stay as nameless rows.

        Committed by the engine, petition by petition, and harmless to repeat. The messages to partners that sent some
        of these signatures are written before: afterwards nobody knows which partners they were.
        """
        async with self.services.database.transaction() as session:
            rows = await _rows(session, signer)
            others = await _attempts(session, signer)
            await publish(session, _erasure_messages(self.services.key_ring, signer, [*rows, *others]))
        # Also where a process of the version before has deleted the row alone.
        petition_ids = sorted({row.petition_id for row in (*rows, *others)})
        erasures = [Erasure(petition_id, signer, choice == "keep") for petition_id in petition_ids]
        await self._submit(erasures)
        # Afterwards: no failure of a mail in flight is recorded any more.
        attempts = {id_ for row in (*rows, *others) for id_ in (row.id, *(row.superseded_attempt_ids or ()))}
        async with self.services.database.transaction() as session:
            await failures.forget(session, SignatureMails.name, attempts)

    async def _submit(self, erasures: Sequence[Erasure]) -> None:
        """Through the engine of this process; the worker has none, and takes a lane for as long as it needs one."""
        signing = self.services.opened.get(SigningServices)
        if isinstance(signing, SigningServices):
            await asyncio.gather(*map(signing.engine.submit, erasures))
        elif erasures:
            writer = LaneWriter(
                self.services.database, self.services.key_ring.fingerprint(), lambda _lane, _totals: None
            )
            try:
                await writer.write(erase, erasures)
            finally:
                await writer.close()


def _erasure_messages(ring: KeyRing, signer: bytes, rows: Iterable[Any]) -> list[NewMessage]:
    attempts: dict[UUID, list[UUID]] = defaultdict(list)
    for row in rows:
        for partner_id, id_ in zip(row.superseded_partner_ids or (), row.superseded_attempt_ids or (), strict=True):
            attempts[partner_id].append(id_)
        if row.partner_id is not None:
            attempts[row.partner_id].append(row.id)
    return [erased(ring, partner_id, signer, ids) for partner_id, ids in sorted(attempts.items())]


def _exported(ring: KeyRing, signer: bytes, row: Any) -> Json:
    return _view(ring, row).model_dump(mode="json") | {
        **_personal(ring, signer, row),
        "group_id": str(row.group_id) if row.group_id else None,
        "event_id": str(row.event_id) if row.event_id else None,
        "disposable_address": row.disposable,
        "mail_count": row.mail_count or 0,
        "proven": bool(row.proven),
        "imported": bool(row.imported),
        "brought_by": str(row.partner_id) if row.partner_id else None,
    }


def _personal(ring: KeyRing, signer: bytes, row: Any) -> Json:
    """The personal fields; of a row that cannot be read, only that it is so. The other rows are exported."""
    try:
        personal = unseal(ring, row.petition_id, signer, row.sealed) if row.sealed else Personal(email="")
    except SealBrokenError as error:
        log.error("a signature cannot be read", signature=str(row.id), **failure_of(error))
        return {"unreadable": True}
    return dict(texts_of(personal))
