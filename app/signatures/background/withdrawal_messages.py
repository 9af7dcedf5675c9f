"""The withdrawals sweep: writes outbox messages for the organizations that may know a signature that was withdrawn.

Withdrawing itself writes no message: the engine only notes in `withdrawn_id` which attempt was withdrawn. This sweep
clears the note and publishes the messages, both in one transaction: so each withdrawal is told exactly once. Which
organizations a signer consented to is read from the ledger; a consent that was not recorded before the withdrawal never
is.

A partner is told about the very attempt that it sent: when that one is withdrawn, and again when the attempt that
replaced it is withdrawn.
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
    SELECT o.petition_id, o.signer, o.id, o.partner_id, o.withdrawn_id,
        o.brought_by AS superseded_partner_ids, o.brought_ids AS superseded_attempt_ids,
        {EFFECTIVE_STATE} = 'withdrawn' AS is_withdrawn
    FROM signatures o
    WHERE o.withdrawn_id IS NOT NULL ORDER BY o.withdrawn_id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
""")
_KEYS = "unnest(CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[])) AS n (petition_id, signer)"
_CLEARED = text(f"""
    UPDATE signatures s SET withdrawn_id = NULL FROM {_KEYS}
    WHERE s.petition_id = n.petition_id AND s.signer = n.signer
""")
_ENTRIES = text(f"""
    SELECT DISTINCT c.petition_id, c.signer, c.organization_id, c.given, c.partner_id
    FROM consents c JOIN {_KEYS} ON c.signer = n.signer AND c.petition_id = n.petition_id
""")

# The organizations that may know a signature, by its key, and whether they sent its consents.
_Knowing: TypeAlias = Mapping[tuple[UUID, bytes], Mapping[UUID, bool]]
# The organization that is told about an attempt, and whether it sent that attempt.
_Recipients: TypeAlias = dict[tuple[UUID, UUID], bool]


class WithdrawalMessages:
    """The sweep."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def __call__(self, session: AsyncSession) -> Sequence[bytes]:
        """Publish up to `BATCH` withdrawals; returns whose they were."""
        rows = (await session.execute(_DUE)).all()
        if rows:
            keys = {"petition_ids": [row.petition_id for row in rows], "signers": [row.signer for row in rows]}
            knowing = _knowing(await session.execute(_ENTRIES, keys))
            await session.execute(_CLEARED, keys)
            await publish(session, self._messages(rows, knowing))
        return [row.signer for row in rows]

    def _messages(self, rows: Iterable[Any], knowing: _Knowing) -> list[NewMessage]:
        return [
            self._message(row, organization_id, id_, brought=brought)
            for row in rows
            for (organization_id, id_), brought in _recipients(row, knowing[row.petition_id, row.signer]).items()
        ]

    def _message(self, row: Any, organization_id: UUID, id_: UUID, *, brought: bool) -> NewMessage:
        content = {
            "petition_id": str(row.petition_id),
            "signature_id": str(id_),
            "person_id": person_id(self._ring, organization_id, row.signer),
            "brought": brought,
        }
        return NewMessage(SIGNATURE_WITHDRAWN, content, organization_id)


def _knowing(entries: Iterable[Any]) -> _Knowing:
    """Organizations to which a consent was given with the signature, and partners that sent its consents."""
    knowing: dict[tuple[UUID, bytes], dict[UUID, bool]] = defaultdict(dict)
    for petition_id, signer, organization_id, given, partner_id in entries:
        known = knowing[petition_id, signer]
        if partner_id is not None:
            known[partner_id] = True
        if given:
            known.setdefault(organization_id, False)
    return knowing


def _recipients(row: Any, known: Mapping[UUID, bool]) -> _Recipients:
    """Of a person who signed again and withdrew again before the sweep, two withdrawn attempts may be known."""
    ids = [row.withdrawn_id, *([row.id] if row.is_withdrawn and row.id != row.withdrawn_id else [])]
    recipients = {(organization_id, id_): brought for id_ in ids for organization_id, brought in sorted(known.items())}
    for partner_id, id_ in zip(row.superseded_partner_ids or (), row.superseded_attempt_ids or (), strict=True):
        if row.is_withdrawn or id_ == row.withdrawn_id:
            recipients[partner_id, id_] = True
    if row.partner_id is not None and row.is_withdrawn:
        recipients[row.partner_id, row.id] = True
    return recipients
