"""Telling of withdrawals: those who may know the signature hear that it was taken back.

Withdrawing itself tells nobody: the hot room only notes which attempt was withdrawn. This sweep takes the notes out and
announces what they say, both in one transaction: each is announced exactly once. It hears who consented to what with
the signature from the ledger; a consent that was not entered when the signature was withdrawn never is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.announcing import Announcement, announce
from app.kit.sealing import KeyRing
from app.people.pseudonyms import person_id
from app.signatures.transitions import LIVING

BATCH = 500
SIGNATURE_WITHDRAWN = "signature.withdrawn"

# Who signed anew and has withdrawn that too has withdrawn two attempts that may be known.
_DUE = text(f"""
    SELECT o.petition_id, o.signer, o.partner_id, o.withdrawn_id,
        CASE WHEN {LIVING} = 'withdrawn' AND o.id <> o.withdrawn_id THEN o.id END AS withdrawn_since
    FROM signatures o
    WHERE o.withdrawn_id IS NOT NULL ORDER BY o.withdrawn_id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
""")
_KEYS = "unnest(CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[])) AS n (petition_id, signer)"
_TAKEN = text(f"""
    UPDATE signatures s SET withdrawn_id = NULL FROM {_KEYS}
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer
""")
_ENTRIES = text(f"""
    SELECT DISTINCT c.petition_id, c.signer, c.organization_id, c.given, c.partner_id
    FROM consents c JOIN {_KEYS} ON c.signer = n.signer AND c.petition_id = n.petition_id
""")

# Who may know a signature, by its key: organizations, and whether they brought it.
_Knowing: TypeAlias = Mapping[tuple[UUID, bytes], Mapping[UUID, bool]]


class Telling:
    """The sweep."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def __call__(self, session: AsyncSession) -> Sequence[bytes]:
        """Announce up to `BATCH` withdrawals; whose they were."""
        rows = (await session.execute(_DUE)).all()
        if rows:
            keys = {"petition_ids": [row.petition_id for row in rows], "signers": [row.signer for row in rows]}
            knowing = _knowing(rows, await session.execute(_ENTRIES, keys))
            await session.execute(_TAKEN, keys)
            await announce(session, self._announced(rows, knowing))
        return [row.signer for row in rows]

    def _announced(self, rows: Iterable[Any], knowing: _Knowing) -> list[Announcement]:
        return [
            self._about(row, id_, organization_id, brought=brought)
            for row in rows
            for id_ in (row.withdrawn_id, row.withdrawn_since)
            if id_ is not None
            for organization_id, brought in sorted(knowing[row.petition_id, row.signer].items())
        ]

    def _about(self, row: Any, id_: UUID, organization_id: UUID, *, brought: bool) -> Announcement:
        content = {
            "petition_id": str(row.petition_id),
            "signature_id": str(id_),
            "person_id": person_id(self._ring, organization_id, row.signer),
            "brought": brought,
        }
        return Announcement(SIGNATURE_WITHDRAWN, content, organization_id)


def _knowing(rows: Iterable[Any], entries: Iterable[Any]) -> _Knowing:
    """Those to whom a consent was given with the signature, and those who brought it or its consents."""
    knowing: dict[tuple[UUID, bytes], dict[UUID, bool]] = {(row.petition_id, row.signer): {} for row in rows}
    for row in rows:
        if row.partner_id is not None:
            knowing[row.petition_id, row.signer][row.partner_id] = True
    for petition_id, signer, organization_id, given, partner_id in entries:
        known = knowing[petition_id, signer]
        if partner_id is not None:
            known[partner_id] = True
        if given:
            known.setdefault(organization_id, False)
    return knowing
