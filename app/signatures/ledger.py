"""Entering in the ledger what people consented to when they signed.

A consent counts with the signature: at once, or from its confirmation on. It waits, sealed, in the signature until this
sweep enters it and takes it out, both in one transaction: so it is entered exactly once.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.logs import log
from app.kit.sealing import KeyRing, SealBrokenError
from app.people import consents
from app.people.asking import entries_of, read_asked
from app.people.schemas import Consent
from app.people.sealing import Details
from app.people.service import Known, remember_all
from app.signatures.sealing import Personal, seal, unseal
from app.signatures.signing import consents_of

BATCH = 500
_DUE = text(f"""
    SELECT petition_id, signer, signed_at, partner_id, sealed FROM signatures
    WHERE consents_due AND state = 'confirmed' ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
""")
_ENTERED = text("""
    UPDATE signatures s SET consents_due = NULL, sealed = n.sealed
    FROM unnest(CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]), CAST(:sealed AS bytea[]))
        AS n (petition_id, signer, sealed)
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer
""")


class _Given(NamedTuple):
    """A signature, opened, and the consents that came with it."""

    row: Any
    personal: Personal
    consents: list[Consent]


async def enter_consents(session: AsyncSession, ring: KeyRing) -> Sequence[bytes]:
    """Enter the consents of up to `BATCH` signatures; their signers."""
    rows = (await session.execute(_DUE)).all()
    found = [given for row in rows if (given := _opened(ring, row)) is not None]
    if found:
        asked = await read_asked(session, {consent.organization for given in found for consent in given.consents})
        await remember_all(session, ring, _people(found))
        entries = [
            entry
            for row, _, given in found
            for entry in entries_of(
                asked, given, row.signer, row.signed_at, petition_id=row.petition_id, partner_id=row.partner_id
            )
        ]
        await consents.enter(session, ring, entries)
        await session.execute(_ENTERED, _columns(ring, found))
    return [given.row.signer for given in found]


def _opened(ring: KeyRing, row: Any) -> _Given | None:
    try:
        personal = unseal(ring, row.petition_id, row.signer, row.sealed)
    except SealBrokenError:
        # Of a key that is not in the ring: it waits until it is.
        log.error("a signature cannot be read")
        return None
    return _Given(row, personal, consents_of(personal))


def _people(found: Iterable[_Given]) -> list[Known]:
    """Those who said yes to somebody: a no alone is nobody's reason to keep more of them."""
    return [
        Known(row.signer, Details(told.email, told.given_name, told.family_name, told.locale or None))
        for row, told, given in found
        if any(consent.given for consent in given)
    ]


def _columns(ring: KeyRing, found: Iterable[_Given]) -> dict[str, Any]:
    resealed = [
        (row.petition_id, row.signer, seal(ring, row.petition_id, row.signer, told._replace(consents="")))
        for row, told, _ in found
    ]
    petition_ids, signers, sealed = map(list, zip(*resealed, strict=True))
    return {"petition_ids": petition_ids, "signers": signers, "sealed": sealed}
