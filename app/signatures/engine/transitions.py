"""Transitions: what becomes of a signature once it is there.

A signature is confirmed, withdrawn or erased by its key, many at once in one batch (here); invalidated, restored,
released or made anonymous by a rule, slice by slice of the key's range (`chunks.py`). Each is one transaction that
moves the tallies with the signatures, by the difference between what counted before and what counts after.

An invalidated signature goes on living under the invalidation: it can be confirmed and withdrawn, and that is what
it is restored to.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.database.session import committing
from app.signatures.engine import tallies
from app.signatures.engine.insert import BROUGHT_BY, BROUGHT_IDS, Committed, Outcome
from app.signatures.engine.lanes import Lane
from app.signatures.engine.tallies import TallyKeys

# The rows are locked in the order of their key, as the intake locks them; `old` is what they were before.
_LOCKED_BY_KEY = """
    (SELECT o.signer, o.state, o.id FROM signatures o
     WHERE o.petition_id = $1 AND o.signer = ANY ($2::bytea[]) AND {condition}
     ORDER BY o.signer FOR UPDATE) AS old
"""
# Whether the attempt named is the one that stands.
_NAMED = "({row}.signer, {row}.id) IN (SELECT n.signer, n.id FROM unnest($2::bytea[], $3::uuid[]) AS n (signer, id))"
_TOLD = "s.petition_id, old.signer, s.country, s.region, s.source, s.group_id, s.event_id, s.signed_at"
UPDATE = f"""
    UPDATE signatures s SET {{changes}} FROM {{locked}}
    WHERE s.petition_id = $1 AND s.signer = old.signer
    RETURNING {_TOLD}, (s.state = 'confirmed')::int - (old.state = 'confirmed')::int, old.id
"""
DELETE = f"""
    DELETE FROM signatures s USING {{locked}}
    WHERE s.petition_id = $1 AND s.signer = old.signer
    RETURNING {_TOLD}, -(old.state = 'confirmed')::int, old.id
"""

NO_MAIL_DUE = "mail_due_at = NULL, mail_since = NULL, due_mail = NULL"
_WITHOUT_PERSON = f"""
    sealed = '', address_digest = NULL, domain_digest = NULL, disposable = NULL, held = NULL, consents_due = NULL,
    proven = NULL,
    {NO_MAIL_DUE}
"""
# A number that was counted, and nobody's: not even the minute is left.
ANONYMOUS = f"""
    signer = uuid_send(gen_random_uuid()), id = gen_random_uuid(), signed_at = date_trunc('hour', s.signed_at, 'UTC'),
    mail_count = NULL, withdrawn_id = NULL, brought_by = NULL, brought_ids = NULL, {_WITHOUT_PERSON}
"""
# What it would be but for an invalidation.
EFFECTIVE_STATE = "coalesce(o.state_before, o.state)"
COUNTED = f"{EFFECTIVE_STATE} = 'confirmed'"


def _becoming(state: str) -> str:
    """The change that makes a signature `state`, under an invalidation if there is one."""
    return f"""
        state = CASE s.state WHEN 'invalidated' THEN s.state ELSE '{state}' END,
        state_before = CASE s.state WHEN 'invalidated' THEN '{state}' END
    """


# Confirmed by the link of another attempt, a signature takes that one's id: who brought it knows it by its own.
_IS_THEIRS = f"s.partner_id IS NULL OR {_NAMED.format(row='s')}"
# Every link proves the mailbox, so any of them confirms what stands there. But the consents that came with it are
# somebody's word only if the link is that attempt's own: another may have been made by a stranger, whose receipt then
# opens nothing either.
_CONFIRM = UPDATE.format(
    changes=f"""{_becoming("confirmed")}, {NO_MAIL_DUE},
        consents_due = CASE WHEN {_NAMED.format(row="s")} THEN s.consents_due END,
        proven = CASE WHEN {_NAMED.format(row="s")} THEN true END,
        brought_by = CASE WHEN {_IS_THEIRS} THEN s.brought_by ELSE {BROUGHT_BY} END,
        brought_ids = CASE WHEN {_IS_THEIRS} THEN s.brought_ids ELSE {BROUGHT_IDS} END,
        id = CASE WHEN {_NAMED.format(row="s")} THEN s.id ELSE (
            SELECT n.id FROM unnest($2::bytea[], $3::uuid[]) AS n (signer, id) WHERE n.signer = s.signer LIMIT 1
        ) END""",
    locked=_LOCKED_BY_KEY.format(
        condition=f"{EFFECTIVE_STATE} = 'pending' AND o.held IS NULL"
        " AND EXISTS (SELECT 1 FROM petitions p WHERE p.id = $1 AND p.state <> 'archived')"
    ),
)
_STANDS = f"{EFFECTIVE_STATE} IN ('pending', 'confirmed')"
# Of several attempts withdrawn before anybody was told (`withdrawal_messages.py`) the first is the one that is known.
_WITHDRAWN = f"{_becoming('withdrawn')}, withdrawn_id = coalesce(s.withdrawn_id, s.id), {_WITHOUT_PERSON}"
_WITHDRAW = UPDATE.format(
    changes=_WITHDRAWN, locked=_LOCKED_BY_KEY.format(condition=f"{_STANDS} AND {_NAMED.format(row='o')}")
)
_WITHDRAW_OWN = UPDATE.format(changes=_WITHDRAWN, locked=_LOCKED_BY_KEY.format(condition=_STANDS))
# A receipt that opens nothing, though somebody has signed with this address: their row and tallies are written as
# they stand, so that it takes as long as a withdrawal. That one changes a column of an index, and so writes pages of
# indexes too; here it is one whose NULL and false mean the same.
_TOUCH = f"""
    UPDATE signatures s SET consents_due = CASE WHEN s.consents_due IS NULL THEN false
        WHEN s.consents_due THEN true END
    WHERE s.petition_id = $1 AND s.signer = $2 AND s.id <> $3
    RETURNING {_TOLD.replace("old.", "s.")}, s.state
"""
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
_NOBODY = Withdrawal(UUID(int=0), b"", UUID(int=0))


async def confirm(lane: Lane, confirmations: Sequence[Confirmation]) -> Committed:
    """Confirm what is pending; it counts from this commit on. What is not pending stays as it is."""
    async with committing(lane.connection):
        rows = await _fetch(lane, _CONFIRM, confirmations, named=True)
        totals = await move(lane, _petitions(confirmations), rows)
    return Committed(_outcomes(confirmations, rows, Outcome.CONFIRMED), totals)


async def withdraw(lane: Lane, withdrawals: Sequence[Withdrawal]) -> Committed:
    """Withdraw, destroying the personal data; what matches no standing signature changes nothing."""
    by_receipt = {withdrawal for withdrawal in withdrawals if withdrawal.id}
    async with committing(lane.connection):
        rows = await _fetch(lane, _WITHDRAW, by_receipt, named=True)
        opened = {Withdrawal(row[0], row[1], row[9]) for row in rows}
        rows += await _fetch(lane, _WITHDRAW_OWN, set(withdrawals) - by_receipt)
        touched = await lane.connection.fetchmany(_TOUCH, sorted(by_receipt - opened) or [_NOBODY])
        standing = [row for row in touched if row[8] == "confirmed"]
        totals = await move(lane, _petitions(withdrawals), rows, standing)
    met = opened | {Withdrawal(row[0], row[1], None) for row in rows}
    return Committed([Outcome.WITHDRAWN if one in met else Outcome.NOTHING for one in withdrawals], totals)


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
    changes = [(row[0], TallyKeys(*row[2:8]), row[8]) for row in rows if row[8]]
    changes += [(row[0], TallyKeys(*row[2:8]), 0) for row in standing]
    return await tallies.apply_deltas(lane.connection, lane.number, touched, changes)


async def _fetch(lane: Lane, statement: str, items: Iterable[ByKey], *, named: bool = False) -> list[Any]:
    """Run a statement for each petition; with `named` it is told the attempts too."""
    grouped: dict[UUID, list[ByKey]] = defaultdict(list)
    for item in items:
        grouped[item.petition_id].append(item)
    arguments = []
    for petition_id, chosen in sorted(grouped.items()):
        columns = [[item.signer for item in chosen], [item.id for item in chosen]]
        arguments.append((petition_id, *columns) if named else (petition_id, columns[0]))
    return list(await lane.connection.fetchmany(statement, arguments)) if arguments else []


def _petitions(items: Iterable[ByKey]) -> set[UUID]:
    return {item.petition_id for item in items}


def _keys(rows: Iterable[Any]) -> set[tuple[UUID, bytes]]:
    return {(row[0], row[1]) for row in rows}


def _outcomes(items: Sequence[ByKey], rows: Iterable[Any], changed: Outcome) -> list[Outcome]:
    met = _keys(rows)
    return [changed if (item.petition_id, item.signer) in met else Outcome.NOTHING for item in items]
