"""The consents sweep: enters in the ledger what people consented to when they signed.

A consent is entered when its attempt is proven, and only if it was accepted then; or, unproven, when an attempt stands
and counts that the organization itself has brought: by a partner, or for the movement by an import. Until then it
waits, sealed, in the attempt. Entering it and noting that are one transaction: so it is entered exactly once.
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
from app.people.consents import contacts
from app.people.consents import service as consents
from app.people.consents.policy import ConsentPolicy, entries_of, read_policies
from app.people.consents.service import Entry
from app.people.queries import movement_id
from app.people.schemas import Consent
from app.people.sealing import Details
from app.signatures.engine.attempts import CONSENTS_DUE, CONSENTS_DUE_WAITING
from app.signatures.signing.prepare import consents_of
from app.signatures.signing.sealing import Personal, reseal_without, unseal

BATCH = 500
_DUE = """
    SELECT o.petition_id, o.signer, o.id, o.signed_at, o.partner_id, o.imported, o.sealed, o.proven,
        o.accepted_consents, o.accepted_at
    FROM {table} o WHERE {due} AND o.id > :after
    ORDER BY o.id LIMIT {limit} FOR UPDATE SKIP LOCKED
"""
# Attempts that stand, and those that wait beside another that the person has proven since.
_TABLES = {
    table: text(_DUE.format(table=table, due=due.format(row="o"), limit=BATCH))
    for table, due in (("signatures", CONSENTS_DUE), ("signature_attempts", CONSENTS_DUE_WAITING))
}
# When the oldest consent that waits became due; NULL when none is. No column says since when a signature counts, only
# when it was given, which may be days earlier: so those that a link has confirmed are left out here, and one that was
# released or restored just now looks older than it is until the sweep has come.
OLDEST_DUE = text(f"""
    SELECT o.signed_at FROM signatures o WHERE {CONSENTS_DUE.format(row="o")} AND o.proven IS NOT TRUE
    ORDER BY o.id LIMIT 1
""")
_BEGINNING = UUID(int=0)
_ENTERED = """
    UPDATE {table} s SET consents_due = NULL, accepted_at = NULL, sealed = n.sealed
    FROM unnest(
        CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]), CAST(:ids AS uuid[]), CAST(:sealed AS bytea[])
    ) AS n (petition_id, signer, id, sealed)
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer AND s.id = n.id
"""


class _Given(NamedTuple):
    """A signature, opened, and the consents that came with it."""

    row: Any
    personal: Personal
    consents: list[Consent]


class ConsentRecorder:
    """The sweep. It passes over attempts that cannot be read, until it begins anew: so they hold nobody up."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._after = dict.fromkeys(_TABLES, _BEGINNING)

    async def __call__(self, session: AsyncSession) -> Sequence[bytes]:
        """Enter the consents of up to `BATCH` attempts of each table; the signers that were looked at."""
        seen: list[bytes] = []
        for table, due in _TABLES.items():
            rows = (await session.execute(due, {"after": self._after[table]})).all()
            found = [given for row in rows if (given := _opened(self._ring, row)) is not None]
            if len(found) < len(rows):
                log.error("signatures cannot be read", count=len(rows) - len(found))
                self._after[table] = rows[-1].id
            if len(rows) < BATCH:
                self._after[table] = _BEGINNING
            if found:
                await _enter(session, self._ring, table, found)
            seen += [row.signer for row in rows]
        return seen


async def _enter(session: AsyncSession, ring: KeyRing, table: str, found: Sequence[_Given]) -> None:
    asked = await read_policies(session, {consent.organization for given in found for consent in given.consents})
    movement = await movement_id(session)
    entered = [(given, _entries(asked, movement, given)) for given in found]
    await remember_all(session, ring, _people(entered))
    await consents.enter(session, ring, [entry for _, entries in entered for entry in entries])
    told = [contacts.Told(entry, _details(given)) for given, entries in entered for entry in entries]
    await contacts.remember(session, ring, told)
    await session.execute(text(_ENTERED.format(table=table)), _columns(ring, found))


def _entries(asked: Mapping[str, ConsentPolicy], movement: UUID, given: _Given) -> list[Entry]:
    row = given.row
    entries = entries_of(
        asked,
        _accepted(given) if row.proven else given.consents,
        row.signer,
        # They hold from the moment at which they were ticked.
        row.accepted_at or row.signed_at,
        petition_id=row.petition_id,
        partner_id=row.partner_id,
        attempt_id=row.id,
        proven=bool(row.proven),
    )
    # Nobody vouches for another: what is not proven is entered for the organization that has brought it, and no other.
    attesting = row.partner_id or movement
    return [entry for entry in entries if row.proven or entry.organization_id == attesting]


def _accepted(given: _Given) -> list[Consent]:
    """Those that were ticked with the proof. The version before noted none: there the link stood for all of them."""
    accepted = given.row.accepted_consents
    if accepted is None:
        return given.consents
    return [consent for number, consent in enumerate(given.consents) if accepted >> number & 1]


def _opened(ring: KeyRing, row: Any) -> _Given | None:
    """None when no key of the ring opens it, or another version has written what this one cannot read."""
    try:
        personal = unseal(ring, row.petition_id, row.signer, row.sealed)
        return _Given(row, personal, consents_of(personal))
    except (SealBrokenError, ValidationError):
        return None


def _details(given: _Given) -> Details:
    row, personal, _ = given
    return Details(
        personal.email,
        personal.given_name or None,
        personal.family_name or None,
        personal.locale or None,
        proven=bool(row.proven),
    )


def _people(entered: Iterable[tuple[_Given, Sequence[Entry]]]) -> list[PersonDetails]:
    """People who said yes to some organization: a no alone is no reason to keep more about them."""
    return [
        PersonDetails(given.row.signer, _details(given))
        for given, entries in entered
        if any(entry.given for entry in entries)
    ]


def _columns(ring: KeyRing, found: Iterable[_Given]) -> dict[str, Any]:
    """What was attested stays in the attempt too: its link can prove it later."""
    rows = [given.row for given in found]
    return {
        "petition_ids": [row.petition_id for row in rows],
        "signers": [row.signer for row in rows],
        "ids": [row.id for row in rows],
        "sealed": [_kept(ring, row) for row in rows],
    }


def _kept(ring: KeyRing, row: Any) -> bytes:
    if not row.proven:
        return bytes(row.sealed)
    return reseal_without("consents", ring, row.petition_id, row.signer, row.sealed)
