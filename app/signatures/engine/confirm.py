"""Confirm: an attempt is proven by its own mailed link, and stands and counts from then on."""

from collections.abc import Sequence
from typing import Any

from app.kit.database.session import committing
from app.signatures.engine import attempts, tallies
from app.signatures.engine.attempts import Change, Key, Standing
from app.signatures.engine.lanes import Lane
from app.signatures.engine.signings import Committed, Outcome
from app.signatures.engine.transitions import (
    GIVEN,
    IS_GIVEN,
    NO_MAIL_DUE,
    STANDS,
    Attempt,
    Confirmation,
    becoming,
    given,
    keys_of,
    petitions_of,
)

# A link proves its own attempt and no other: what its row says was shown to whoever pressed the button. $4: which of
# its consents they have accepted.
_PROVE = f"""
    UPDATE {{table}} s SET {becoming("confirmed")}, proven = true, held = NULL, {NO_MAIL_DUE},
        accepted_consents = n.value, consents_due = CASE WHEN n.value <> 0 THEN true END,
        accepted_at = CASE WHEN n.value <> 0 THEN date_trunc('second', now()) END{{more}}
    FROM {GIVEN.format(type="int")}
    WHERE {IS_GIVEN} AND {STANDS} AND s.proven IS NULL AND s.held IS NOT TRUE
    AND EXISTS (SELECT 1 FROM petitions p WHERE p.id = $1 AND p.state <> 'archived')
    RETURNING s.petition_id, s.signer, s.id, s.state = 'confirmed'
"""
_PROVE_STANDING = _PROVE.format(table="signatures", more=", taken_back = NULL")
# An invalidated one is proven too, but does not stand before the invalidation is undone.
_PROVE_WAITING = _PROVE.format(table="signature_attempts", more="")


async def confirm(lane: Lane, confirmations: Sequence[Confirmation]) -> Committed:
    """Prove these attempts: each stands and counts from this commit on. `DUPLICATE`: it was proven before."""
    async with committing(lane.connection):
        standing = await attempts.lock(lane.connection, keys_of(confirmations))
        done, changes = await _prove_standing(lane, standing, confirmations)
        before = {(*key, row.id) for key, row in standing.items() if row.proven}
        others = [one for one in confirmations if one[:3] not in done | before]
        if others:
            proven, already, moved = await _prove_waiting(lane, others)
            done, before, changes = done | proven, before | already, [*changes, *moved]
        totals = await tallies.apply_deltas(lane.connection, lane.number, petitions_of(confirmations), changes)
    said = dict.fromkeys(before, Outcome.DUPLICATE) | dict.fromkeys(done, Outcome.CONFIRMED)
    return Committed([said.get(one[:3], Outcome.NOTHING) for one in confirmations], totals)


async def _prove_standing(
    lane: Lane, standing: dict[Key, Standing], confirmations: Sequence[Confirmation]
) -> tuple[set[Attempt], list[Change]]:
    rows = await lane.connection.fetchmany(_PROVE_STANDING, _accepted(confirmations))
    counted = [standing[row[0], row[1]] for row in rows if row[3]]
    changes = [(row.petition_id, row.tally_keys, 1) for row in counted if row.state != "confirmed"]
    return {tuple(row)[:3] for row in rows}, changes


async def _prove_waiting(lane: Lane, others: Sequence[Confirmation]) -> tuple[set[Attempt], set[Attempt], list[Change]]:
    """Those that are proven now, those that were before, and the changes of the tallies."""
    before = await attempts.proven_among(lane.connection, _accepted(others))
    rows = await lane.connection.fetchmany(_PROVE_WAITING, _accepted(others))
    # Of several of one person in one batch, the last one stands.
    chosen = {(row[0], row[1]): row[2] for row in rows if row[3]}
    return {tuple(row)[:3] for row in rows}, before, await attempts.take_place(lane.connection, chosen)


def _accepted(confirmations: Sequence[Confirmation]) -> list[tuple[Any, ...]]:
    return given(confirmations, [one.accepted for one in confirmations])
