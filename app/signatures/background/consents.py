"""The consents sweep: records in the ledger what people consented to when they signed.

A consent counts when its signature counts: at once, or from its confirmation on. It waits, sealed, in the signature
until this sweep records it and removes it there, both in one transaction: so it is recorded exactly once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import log
from app.people.account.service import PersonDetails, remember_all
from app.people.consents import service as consents
from app.people.consents.policy import ConsentPolicy, entries_of, read_policies
from app.people.consents.service import Entry
from app.people.schemas import Consent
from app.people.sealing import Details
from app.signatures.signing.prepare import consents_of
from app.signatures.signing.sealing import Personal, reseal_without, unseal

BATCH = 500
# A consent is proven if a link was mailed to the address that it came with, and somebody followed it.
_DUE = text(f"""
    SELECT petition_id, signer, id, signed_at, partner_id, sealed, proven FROM signatures
    WHERE consents_due AND state = 'confirmed' AND id > :after
    ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
""")
# When the oldest consent that waits became due; NULL when none is. No column says since when a signature counts, only
# when it was given, which may be days earlier: so those that a link has confirmed are left out here, and one that was
# released or restored just now looks older than it is until the sweep has come.
OLDEST_DUE = text("""
    SELECT signed_at FROM signatures WHERE consents_due AND state = 'confirmed' AND proven IS NOT TRUE
    ORDER BY id LIMIT 1
""")
_BEGINNING = UUID(int=0)
_RECORDED = text("""
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


class ConsentRecorder:
    """The sweep. It passes over signatures that cannot be read, until it begins anew: so they hold nobody up."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._after = _BEGINNING

    async def __call__(self, session: AsyncSession) -> Sequence[bytes]:
        """Record the consents of up to `BATCH` signatures; returns the signers that were looked at."""
        rows = (await session.execute(_DUE, {"after": self._after})).all()
        found = [given for row in rows if (given := _opened(self._ring, row)) is not None]
        if len(found) < len(rows):
            log.error("signatures cannot be read", count=len(rows) - len(found))
            self._after = rows[-1].id
        if len(rows) < BATCH:
            self._after = _BEGINNING
        if found:
            await _record(session, self._ring, found)
        return [row.signer for row in rows]


async def _record(session: AsyncSession, ring: KeyRing, found: Sequence[_Given]) -> None:
    asked = await read_policies(session, {consent.organization for given in found for consent in given.consents})
    await remember_all(session, ring, _people(found))
    await consents.enter(session, ring, [entry for given in found for entry in _entries(asked, given)])
    await session.execute(_RECORDED, _columns(ring, found))


def _entries(asked: Mapping[str, ConsentPolicy], given: _Given) -> list[Entry]:
    row = given.row
    return entries_of(
        asked,
        given.consents,
        row.signer,
        row.signed_at,
        petition_id=row.petition_id,
        partner_id=row.partner_id,
        proven=bool(row.proven),
    )


def _opened(ring: KeyRing, row: Any) -> _Given | None:
    """None when no key of the ring opens it, or another version has written what this one cannot read."""
    try:
        personal = unseal(ring, row.petition_id, row.signer, row.sealed)
        return _Given(row, personal, consents_of(personal))
    except (SealBrokenError, ValidationError):
        return None


def _people(found: Iterable[_Given]) -> list[PersonDetails]:
    """People who said yes to some organization: a no alone is no reason to keep more about them."""
    return [
        PersonDetails(
            row.signer, Details(personal.email, personal.given_name, personal.family_name, personal.locale or None)
        )
        for row, personal, given in found
        if any(consent.given for consent in given)
    ]


def _columns(ring: KeyRing, found: Iterable[_Given]) -> dict[str, Any]:
    rows = [given.row for given in found]
    return {
        "petition_ids": [row.petition_id for row in rows],
        "signers": [row.signer for row in rows],
        "sealed": [reseal_without("consents", ring, row.petition_id, row.signer, row.sealed) for row in rows],
    }
