"""Telling of withdrawals: those who may know the signature hear that it was taken back.

Withdrawing itself tells nobody: the hot room only notes which attempt was withdrawn. This sweep takes the notes out and
announces what they say, both in one transaction: each is announced exactly once. It hears who consented to what with
the signature from the ledger; a consent that was not entered when the signature was withdrawn never is.

Whoever brought an attempt is told of that very one: when it is withdrawn, and again when whatever took its place is.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing
from app.kit.database.outbox import NewMessage, publish
from app.people.pseudonyms import person_id
from app.signatures.engine.transitions import EFFECTIVE_STATE

BATCH = 500
SIGNATURE_WITHDRAWN = "signature.withdrawn"

_DUE = text(f"""
    SELECT o.petition_id, o.signer, o.id, o.partner_id, o.withdrawn_id, o.brought_by, o.brought_ids,
        {EFFECTIVE_STATE} = 'withdrawn' AS is_withdrawn
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

# Who may know a signature, by its key: organizations, and whether they brought its consents.
_Knowing: TypeAlias = Mapping[tuple[UUID, bytes], Mapping[UUID, bool]]
# Who is told of which attempt, and whether they brought it.
_Told: TypeAlias = dict[tuple[UUID, UUID], bool]


class WithdrawalMessages:
    """The sweep."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def __call__(self, session: AsyncSession) -> Sequence[bytes]:
        """Announce up to `BATCH` withdrawals; whose they were."""
        rows = (await session.execute(_DUE)).all()
        if rows:
            keys = {"petition_ids": [row.petition_id for row in rows], "signers": [row.signer for row in rows]}
            knowing = _knowing(await session.execute(_ENTRIES, keys))
            await session.execute(_TAKEN, keys)
            await publish(session, self._announced(rows, knowing))
        return [row.signer for row in rows]

    def _announced(self, rows: Iterable[Any], knowing: _Knowing) -> list[NewMessage]:
        return [
            self._about(row, organization_id, id_, brought=brought)
            for row in rows
            for (organization_id, id_), brought in _told(row, knowing[row.petition_id, row.signer]).items()
        ]

    def _about(self, row: Any, organization_id: UUID, id_: UUID, *, brought: bool) -> NewMessage:
        content = {
            "petition_id": str(row.petition_id),
            "signature_id": str(id_),
            "person_id": person_id(self._ring, organization_id, row.signer),
            "brought": brought,
        }
        return NewMessage(SIGNATURE_WITHDRAWN, content, organization_id)


def _knowing(entries: Iterable[Any]) -> _Knowing:
    """Those to whom a consent was given with the signature, and those who brought its consents."""
    knowing: dict[tuple[UUID, bytes], dict[UUID, bool]] = defaultdict(dict)
    for petition_id, signer, organization_id, given, partner_id in entries:
        known = knowing[petition_id, signer]
        if partner_id is not None:
            known[partner_id] = True
        if given:
            known.setdefault(organization_id, False)
    return knowing


def _told(row: Any, known: Mapping[UUID, bool]) -> _Told:
    """Who signed anew and has withdrawn that too has withdrawn two attempts that may be known."""
    ids = [row.withdrawn_id, *([row.id] if row.is_withdrawn and row.id != row.withdrawn_id else [])]
    told = {(organization_id, id_): brought for id_ in ids for organization_id, brought in sorted(known.items())}
    for partner_id, id_ in zip(row.brought_by or (), row.brought_ids or (), strict=True):
        if row.is_withdrawn or id_ == row.withdrawn_id:
            told[partner_id, id_] = True
    if row.partner_id is not None and row.is_withdrawn:
        told[row.partner_id, row.id] = True
    return told
