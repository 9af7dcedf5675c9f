"""Withdraw: an attempt by its receipt, or all of a person's by the person; what is personal in it is destroyed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.kit.database.session import committing
from app.signatures.engine import attempts, tallies
from app.signatures.engine.attempts import Change, Key, Standing
from app.signatures.engine.lanes import Lane
from app.signatures.engine.signings import Committed, Outcome
from app.signatures.engine.transitions import (
    GIVEN,
    IS_GIVEN,
    NOBODY,
    STANDS,
    WITHOUT_PERSON,
    Attempt,
    Withdrawal,
    becoming,
    given,
    keys_of,
    petitions_of,
)

# If several attempts are withdrawn before anybody was told (`withdrawal_messages.py`), the first one is the one known.
_DESTROYED = f"{becoming('withdrawn')}, withdrawn_id = coalesce(s.withdrawn_id, s.id), {WITHOUT_PERSON}"
# Whoever typed the address holds the receipt of the signing: it withdraws nothing that somebody has proven. $4: whether
# the receipt is a proven one. What the person has proven before, that they withdraw, stays known.
_WITHDRAW_STANDING = f"""
    UPDATE signatures s SET {_DESTROYED}, taken_back = coalesce(s.taken_back, false) FROM {GIVEN.format(type="bool")}
    WHERE {IS_GIVEN} AND {STANDS} AND (n.value OR s.proven IS NULL)
    RETURNING s.petition_id, s.signer, s.id
"""
_WITHDRAW_WAITING = f"""
    UPDATE signature_attempts s SET {_DESTROYED} FROM {GIVEN.format(type="bool")}
    WHERE {IS_GIVEN} AND {STANDS} AND (n.value OR s.proven IS NULL)
    RETURNING s.petition_id, s.signer, s.id
"""
# The mailbox is asked instead.
_ASK_TO_WITHDRAW = f"""
    UPDATE {{table}} s SET due_mail = 'confirm_withdrawal', mail_due_at = now(), mail_since = now(), mail_count = NULL
    FROM {GIVEN.format(type="bool")}
    WHERE {IS_GIVEN} AND {STANDS} AND NOT n.value AND s.proven AND s.due_mail IS NULL
    RETURNING s.petition_id, s.signer, s.id
"""
_ASK_STANDING = _ASK_TO_WITHDRAW.format(table="signatures")
_ASK_WAITING = _ASK_TO_WITHDRAW.format(table="signature_attempts")
_WITHDRAW_OWN = f"""
    UPDATE signatures s SET {becoming("withdrawn")}, taken_back = true,
        withdrawn_id = CASE WHEN {STANDS} THEN coalesce(s.withdrawn_id, s.id) ELSE s.withdrawn_id END, {WITHOUT_PERSON}
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[])
"""
# Of an attempt that nothing stands in place of: its partner, or an import, must not bring it again.
_TAKE_BACK = """
    UPDATE signatures s SET taken_back = true
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND coalesce(s.state_before, s.state) = 'withdrawn'
"""
_WITHDRAW_OTHERS = f"""
    UPDATE signature_attempts s SET {_DESTROYED}
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND {STANDS}
"""
# A receipt that does not open the attempt that stands, of a person who has signed: the row and its tallies are written
# unchanged, so that it takes as long as a withdrawal and a stranger learns nothing. A withdrawal changes an indexed
# column and so writes to indexes too. So does this: it changes `consents_due` between NULL and false, which mean the
# same.
_PAD_TIMING = """
    UPDATE signatures s SET consents_due = CASE WHEN s.consents_due IS NULL THEN false
        WHEN s.consents_due THEN true END
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[])
"""


class _Gone(NamedTuple):
    """Whose standing attempt was withdrawn: by an unproven receipt, by a proven one, and by the person, signed in."""

    unproven: set[Key]
    proven: set[Key]
    own: set[Key]


async def withdraw(lane: Lane, withdrawals: Sequence[Withdrawal]) -> Committed:
    """Withdraw and destroy the personal data; a withdrawal that matches no attempt changes nothing."""
    receipts = {one for one in withdrawals if one.id}
    own = {one[:2] for one in withdrawals if not one.id}
    async with committing(lane.connection):
        standing = await attempts.lock(lane.connection, keys_of(withdrawals))
        # Whoever withdraws by proof what they have proven withdraws all, be it that another attempt stands by now.
        were_proven = await attempts.proven_among(lane.connection, given(list(receipts), [None] * len(receipts)))
        own |= {one[:2] for one in receipts if one.proven and one[:3] in were_proven}
        waiting = await _by_receipt(lane, _WITHDRAW_WAITING, receipts)
        withdrawn = await _by_receipt(lane, _WITHDRAW_STANDING, receipts)
        await _by_receipt(lane, _ASK_STANDING, receipts)
        await _by_receipt(lane, _ASK_WAITING, receipts)
        await _pad(lane, receipts, withdrawn)
        if own:
            await lane.connection.executemany(_WITHDRAW_OWN, attempts.by_petition(own & standing.keys()))
        proven = {one[:2] for one in receipts if one.proven and one[:3] in withdrawn}
        gone = _Gone({one[:2] for one in withdrawn} - proven, proven, own & standing.keys())
        changes = await _after(lane, standing, gone, {one[:2] for one in receipts})
        totals = await tallies.apply_deltas(lane.connection, lane.number, petitions_of(withdrawals), changes)
    opened = waiting | withdrawn
    done = [one[:3] in opened if one.id else one[:2] in standing for one in withdrawals]
    return Committed([Outcome.WITHDRAWN if is_done else Outcome.NOTHING for is_done in done], totals)


async def _after(lane: Lane, standing: Mapping[Key, Standing], gone: _Gone, asked: set[Key]) -> list[Change]:
    """Let the next attempts stand, or destroy them too if a proven one was withdrawn by proof; the tallies' changes."""
    # A change of zero where nothing moved, so that it takes as long.
    every = gone.unproven | gone.proven | gone.own
    changes = [
        (row.petition_id, row.tally_keys, -1 if key in every else 0)
        for key, row in standing.items()
        if row.state == "confirmed"
    ]
    final = gone.own | {key for key in gone.proven if standing[key].proven}
    await lane.connection.executemany(_WITHDRAW_OTHERS, attempts.by_petition(final) or [NOBODY[:2]])
    # Looked up for everybody, so that it takes as long: who stands rightly goes on standing.
    changes += await attempts.stand_next(lane.connection, (every | (asked & standing.keys())) - final, padded=True)
    if gone.proven:
        await lane.connection.executemany(_TAKE_BACK, attempts.by_petition(gone.proven))
    return changes


async def _by_receipt(lane: Lane, statement: str, receipts: set[Withdrawal]) -> set[Attempt]:
    """What the statement changed. It runs for nobody too, so that every receipt takes as long."""
    # Of two receipts of one attempt the proven one comes first, and holds.
    ordered = sorted(receipts, key=lambda one: (one[:3], not one.proven))
    rows = await lane.connection.fetchmany(statement, given(ordered, [one.proven for one in ordered]) or [NOBODY])
    return {tuple(row) for row in rows}


async def _pad(lane: Lane, receipts: set[Withdrawal], done: set[Attempt]) -> None:
    idle = {one[:2] for one in receipts if one[:3] not in done}
    await lane.connection.executemany(_PAD_TIMING, attempts.by_petition(idle) or [NOBODY[:2]])
