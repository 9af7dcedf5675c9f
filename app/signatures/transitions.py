"""Transitions: what becomes of a signature once it is there.

A signature is confirmed, withdrawn or erased by its key, many at once in one batch (here); invalidated, restored,
released or made anonymous by a rule, slice by slice of the key's range (`slices.py`). Each is one transaction that
moves the tallies with the signatures, by the difference between what counted before and what counts after.

An invalidated signature goes on living under the invalidation: it can be confirmed and withdrawn, and that is what
it is restored to.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.db import committing
from app.signatures import tallies
from app.signatures.intake import Committed, Outcome
from app.signatures.lanes import Lane
from app.signatures.tallies import Facets

# The rows are locked in the order of their key, as the intake locks them; `old` is what they were before.
_LOCKED_BY_KEY = """
    (SELECT o.signer, o.state, o.held FROM unnest($2::bytea[], $3::uuid[]) AS n (signer, id)
     JOIN signatures o ON o.petition_id = $1 AND o.signer = n.signer AND (n.id IS NULL OR o.id = n.id)
     WHERE {condition}
     ORDER BY o.signer FOR UPDATE OF o) AS old
"""
_TOLD = "s.petition_id, old.signer, s.country, s.region, s.source, s.group_id, s.event_id, s.signed_at"
UPDATE = f"""
    UPDATE signatures s SET {{changes}} FROM {{locked}}
    WHERE s.petition_id = $1 AND s.signer = old.signer
    RETURNING {_TOLD}, (s.state = 'confirmed')::int - (old.state = 'confirmed')::int
"""
DELETE = f"""
    DELETE FROM signatures s USING {{locked}}
    WHERE s.petition_id = $1 AND s.signer = old.signer
    RETURNING {_TOLD}, -(old.state = 'confirmed')::int
"""

NO_MAIL_DUE = "mail_due_at = NULL, due_mail = NULL"
_WITHOUT_PERSON = f"""
    sealed = '', address_digest = NULL, domain_digest = NULL, disposable = NULL, held = NULL, consents_due = NULL,
    {NO_MAIL_DUE}
"""
# A number that was counted, and nobody's: not even the minute is left.
ANONYMOUS = f"""
    signer = uuid_send(gen_random_uuid()), id = gen_random_uuid(), signed_at = date_trunc('hour', s.signed_at, 'UTC'),
    mail_count = NULL, {_WITHOUT_PERSON}
"""
# What it would be but for an invalidation.
LIVING = "coalesce(o.state_before, o.state)"
COUNTED = f"{LIVING} = 'confirmed'"


def _becoming(state: str) -> str:
    """The change that makes a signature `state`, under an invalidation if there is one."""
    return f"""
        state = CASE s.state WHEN 'invalidated' THEN s.state ELSE '{state}' END,
        state_before = CASE s.state WHEN 'invalidated' THEN '{state}' END
    """


_CONFIRM = UPDATE.format(
    changes=f"{_becoming('confirmed')}, {NO_MAIL_DUE}",
    locked=_LOCKED_BY_KEY.format(
        condition=f"{LIVING} = 'pending' AND o.held IS NULL"
        " AND EXISTS (SELECT 1 FROM petitions p WHERE p.id = $1 AND p.state <> 'archived')"
    ),
)
_WITHDRAW = UPDATE.format(
    changes=f"{_becoming('withdrawn')}, {_WITHOUT_PERSON}",
    locked=_LOCKED_BY_KEY.format(condition=f"{LIVING} IN ('pending', 'confirmed')"),
)
# A receipt that opens nothing, though somebody has signed with this address: their row and tallies are written as
# they stand, so that it takes as long as a withdrawal.
_TOUCH = f"""
    UPDATE signatures s SET id = s.id WHERE s.petition_id = $1 AND s.signer = $2 AND s.id <> $3
    RETURNING {_TOLD.replace("old.", "s.")}, s.state
"""
_NOBODY = (UUID(int=0), b"", UUID(int=0))
# Whoever is erased and lets the signature stand leaves a number; everything else of theirs goes.
_ERASE_KEEPING = UPDATE.format(changes=ANONYMOUS, locked=_LOCKED_BY_KEY.format(condition=COUNTED))
_ERASE = DELETE.format(locked=_LOCKED_BY_KEY.format(condition="true"))


class Confirmation(NamedTuple):
    """The link of this attempt was followed, and its button pressed."""

    petition_id: UUID
    signer: bytes
    id: UUID


class Withdrawal(NamedTuple):
    """An attempt to withdraw: by a receipt, which must be the one the signature came with, or by the person."""

    petition_id: UUID
    signer: bytes
    id: UUID | None


class Erasure(NamedTuple):
    """A person is to be forgotten; with `keeping` a signature that counts stays, as nobody's."""

    petition_id: UUID
    signer: bytes
    keeping: bool
    id: None = None


ByKey = Confirmation | Withdrawal | Erasure


async def confirm(lane: Lane, confirmations: Sequence[Confirmation]) -> Committed:
    """Confirm what is pending; it counts from this commit on. What is not pending stays as it is."""
    async with committing(lane.connection):
        rows = await _fetch(lane, _CONFIRM, confirmations)
        totals = await move(lane, _petitions(confirmations), rows)
    return Committed(_outcomes(confirmations, rows, Outcome.CONFIRMED), totals)


async def withdraw(lane: Lane, withdrawals: Sequence[Withdrawal]) -> Committed:
    """Withdraw, destroying the personal data; what matches no standing signature changes nothing."""
    async with committing(lane.connection):
        rows = await _fetch(lane, _WITHDRAW, withdrawals)
        met = _keys(rows)
        unmet = sorted({w[:3] for w in withdrawals if w.id and w[:2] not in met})
        touched = await lane.connection.fetchmany(_TOUCH, unmet or [_NOBODY])
        standing = [row for row in touched if row[8] == "confirmed"]
        totals = await move(lane, _petitions(withdrawals), rows, standing)
    return Committed(_outcomes(withdrawals, rows, Outcome.WITHDRAWN), totals)


async def erase(lane: Lane, erasures: Sequence[Erasure]) -> Committed:
    """Erase every trace of these people under these petitions."""
    async with committing(lane.connection):
        rows = await _fetch(lane, _ERASE_KEEPING, [erasure for erasure in erasures if erasure.keeping])
        rows += await _fetch(lane, _ERASE, erasures)
        totals = await move(lane, _petitions(erasures), rows)
    return Committed(_outcomes(erasures, rows, Outcome.ERASED), totals)


async def move(
    lane: Lane, touched: Iterable[UUID], rows: Iterable[Any], standing: Iterable[Any] = ()
) -> dict[UUID, int]:
    """Move the tallies by what changed rows say of themselves (`UPDATE`, `DELETE`), those of standing ones by nought.

    The totals of all touched petitions in this lane.
    """
    changes = [(row[0], Facets(*row[2:8]), row[8]) for row in rows if row[8]]
    changes += [(row[0], Facets(*row[2:8]), 0) for row in standing]
    return await tallies.move(lane.connection, lane.number, touched, changes)


async def _fetch(lane: Lane, statement: str, items: Iterable[ByKey]) -> list[Any]:
    grouped: dict[UUID, dict[bytes, UUID | None]] = {}
    for item in items:
        grouped.setdefault(item.petition_id, {})[item.signer] = item.id
    arguments = [(petition_id, list(keys), list(keys.values())) for petition_id, keys in sorted(grouped.items())]
    return list(await lane.connection.fetchmany(statement, arguments)) if arguments else []


def _petitions(items: Iterable[ByKey]) -> set[UUID]:
    return {item.petition_id for item in items}


def _keys(rows: Iterable[Any]) -> set[tuple[UUID, bytes]]:
    return {(row[0], row[1]) for row in rows}


def _outcomes(items: Sequence[ByKey], rows: Iterable[Any], changed: Outcome) -> list[Outcome]:
    met = _keys(rows)
    return [changed if (item.petition_id, item.signer) in met else Outcome.NOTHING for item in items]
