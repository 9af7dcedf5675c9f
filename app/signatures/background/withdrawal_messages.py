"""The withdrawals sweep: tells the organizations that may know an attempt that it was withdrawn.

Withdrawing itself writes no message: the engine only notes in `withdrawn_id` which attempt was withdrawn. This sweep
clears the note, takes back the unproven consents that came with the attempt, and publishes the messages, all in one
transaction: so each withdrawal is told exactly once. Which organizations somebody consented to with the attempt is read
from the ledger; a consent that was not entered before the withdrawal never is.

A partner is told about the very attempt that it sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import this_second
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import made_at
from app.kit.database.outbox import NewMessage, publish
from app.people.consents import contacts
from app.people.consents import service as consents
from app.people.consents.service import Entry
from app.people.pseudonyms import person_id, signature_id
from app.signatures.engine.transitions import EFFECTIVE_STATE

BATCH = 500
SIGNATURE_WITHDRAWN = "signature.withdrawn"

_DUE = """
    SELECT o.petition_id, o.signer, o.id, o.partner_id, o.withdrawn_id, {superseded},
        {state} = 'withdrawn' AS is_withdrawn
    FROM {table} o
    WHERE o.withdrawn_id IS NOT NULL ORDER BY o.withdrawn_id LIMIT {limit} FOR UPDATE SKIP LOCKED
"""
_SUPERSEDED = "o.brought_by AS superseded_partner_ids, o.brought_ids AS superseded_attempt_ids"
_NO_SUPERSEDED = "NULL AS superseded_partner_ids, NULL AS superseded_attempt_ids"
_TABLES = {
    table: text(_DUE.format(table=table, superseded=superseded, state=EFFECTIVE_STATE, limit=BATCH))
    for table, superseded in (("signatures", _SUPERSEDED), ("signature_attempts", _NO_SUPERSEDED))
}
_KEYS = (
    "unnest(CAST(:petition_ids AS uuid[]), CAST(:signers AS bytea[]), CAST(:ids AS uuid[]))"
    " AS n (petition_id, signer, id)"
)
_IS_ONE = "s.petition_id = n.petition_id AND s.signer = n.signer AND s.id = n.id"
_CLEARED = "UPDATE {table} s SET withdrawn_id = NULL FROM {keys} WHERE {is_one}"
# Of what nobody vouched for nothing is kept.
_GONE = text(f"""
    DELETE FROM signature_attempts s USING {_KEYS}
    WHERE {_IS_ONE} AND coalesce(s.state_before, s.state) = 'withdrawn'
    AND (s.partner_id IS NULL AND s.imported IS NULL OR NOT EXISTS (
        SELECT FROM signatures o WHERE o.petition_id = s.petition_id AND o.signer = s.signer
    ))
""")
# Entries of before attempts were noted came with the attempt that the row held then: with none that was made later.
_ENTRIES = text(f"""
    SELECT c.petition_id, c.signer, c.organization_id, c.purpose, c.given, c.proven, c.partner_id, c.attempt_id,
        max(c.decided_at) AS decided_at, max(c.created_at) AS created_at
    FROM consents c JOIN {_KEYS} ON c.signer = n.signer AND c.petition_id = n.petition_id
    GROUP BY c.petition_id, c.signer, c.organization_id, c.purpose, c.given, c.proven, c.partner_id, c.attempt_id
""")

# The organizations that may know an attempt, and whether they sent its consents.
_Knowing: TypeAlias = Mapping[UUID, bool]
# The organization that is told about an attempt, and whether it sent that attempt.
_Recipients: TypeAlias = dict[tuple[UUID, UUID], bool]
_Key: TypeAlias = tuple[UUID, bytes]


class _Ledger(NamedTuple):
    """Entries that came with attempts to sign, by person and petition."""

    entries: Mapping[_Key, Sequence[Any]]

    def of(self, row: Any, attempt_id: UUID) -> list[Any]:
        return [
            entry
            for entry in self.entries.get((row.petition_id, row.signer), ())
            if entry.attempt_id == attempt_id or (entry.attempt_id is None and made_at(attempt_id) <= entry.created_at)
        ]


class WithdrawalMessages:
    """The sweep."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def __call__(self, session: AsyncSession) -> Sequence[bytes]:
        """Publish up to `BATCH` withdrawals of each table; returns whose they were."""
        seen: list[bytes] = []
        for table, due in _TABLES.items():
            rows = (await session.execute(due)).all()
            if rows:
                await self._tell(session, table, rows)
            seen += [row.signer for row in rows]
        return seen

    async def _tell(self, session: AsyncSession, table: str, rows: Sequence[Any]) -> None:
        keys = {
            "petition_ids": [row.petition_id for row in rows],
            "signers": [row.signer for row in rows],
            "ids": [row.id for row in rows],
        }
        ledger = _ledger(await session.execute(_ENTRIES, keys))
        await session.execute(text(_CLEARED.format(table=table, keys=_KEYS, is_one=_IS_ONE)), keys)
        await session.execute(_GONE, keys)
        await publish(session, self._messages(rows, ledger))
        await contacts.forget_attempts(session, [id_ for row in rows for id_ in _withdrawn_ids(row)])
        await consents.enter(session, self._ring, _taken_back(rows, ledger))

    def _messages(self, rows: Iterable[Any], ledger: _Ledger) -> list[NewMessage]:
        return [
            self._message(row, organization_id, id_, brought=brought)
            for row in rows
            for (organization_id, id_), brought in _recipients(row, ledger).items()
        ]

    def _message(self, row: Any, organization_id: UUID, id_: UUID, *, brought: bool) -> NewMessage:
        content = {
            "petition_id": str(row.petition_id),
            "signature_id": signature_id(self._ring, organization_id, id_),
            "person_id": person_id(self._ring, organization_id, row.signer),
            "brought": brought,
        }
        return NewMessage(SIGNATURE_WITHDRAWN, content, organization_id)


def _ledger(entries: Iterable[Any]) -> _Ledger:
    grouped: dict[_Key, list[Any]] = defaultdict(list)
    for entry in entries:
        grouped[entry.petition_id, entry.signer].append(entry)
    return _Ledger(grouped)


def _withdrawn_ids(row: Any) -> list[UUID]:
    """Of a person who signed again and withdrew again before the sweep, two attempts are withdrawn."""
    return [row.withdrawn_id, *([row.id] if row.is_withdrawn and row.id != row.withdrawn_id else [])]


def _taken_back(rows: Iterable[Any], ledger: _Ledger) -> list[Entry]:
    """Unproven consents go with the attempt that brought them; what is proven is taken back for itself."""
    return [
        Entry(
            entry.signer,
            entry.organization_id,
            entry.purpose,
            False,
            None,
            # Not before the entry it follows, which the version before may have dated more finely.
            max(this_second(), entry.decided_at),
            row.petition_id,
            entry.partner_id,
            None,
            False,
            entry.attempt_id,
        )
        for row in rows
        for id_ in _withdrawn_ids(row)
        for entry in ledger.of(row, id_)
        if entry.given and not entry.proven and entry.attempt_id is not None
    ]


def _knowing(entries: Iterable[Any]) -> _Knowing:
    """Organizations to which a consent was given with the attempt, and partners that sent its consents."""
    known: dict[UUID, bool] = {}
    for entry in entries:
        if entry.partner_id is not None:
            known[entry.partner_id] = True
        if entry.given:
            known.setdefault(entry.organization_id, False)
    return known


def _recipients(row: Any, ledger: _Ledger) -> _Recipients:
    recipients = {
        (organization_id, id_): brought
        for id_ in _withdrawn_ids(row)
        for organization_id, brought in sorted(_knowing(ledger.of(row, id_)).items())
    }
    for partner_id, id_ in zip(row.superseded_partner_ids or (), row.superseded_attempt_ids or (), strict=True):
        if row.is_withdrawn or id_ == row.withdrawn_id:
            recipients[partner_id, id_] = True
    if row.partner_id is not None and row.is_withdrawn:
        recipients[row.partner_id, row.id] = True
    return recipients
