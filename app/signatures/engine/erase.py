"""Erase: every trace of a person under a petition; one that counts may stay as a nameless row."""

from collections.abc import Iterable, Sequence
from typing import Any

from app.kit.database.session import committing
from app.signatures.engine import attempts
from app.signatures.engine.lanes import Lane
from app.signatures.engine.signings import Committed, Outcome
from app.signatures.engine.transitions import (
    ANONYMOUS,
    COUNTED,
    DELETE,
    UPDATE,
    Erasure,
    apply_changes,
    keys_of,
    petitions_of,
)

# All rows are locked before, those of who keeps and of who does not in one order.
_LOCKED_BY_KEY = """
    (SELECT o.signer, o.state, o.id FROM signatures o
     WHERE o.petition_id = $1 AND o.signer = ANY ($2::bytea[]) AND {condition}) AS old
"""
# A person who is erased may let the signature count on: then a nameless row stays. Everything else of theirs is
# deleted.
_ERASE_KEEPING = UPDATE.format(changes=ANONYMOUS, locked=_LOCKED_BY_KEY.format(condition=COUNTED))
_ERASE = DELETE.format(locked=_LOCKED_BY_KEY.format(condition="true"))
_ERASE_WAITING = "DELETE FROM signature_attempts a WHERE a.petition_id = $1 AND a.signer = ANY ($2::bytea[])"


async def erase(lane: Lane, erasures: Sequence[Erasure]) -> Committed:
    """Erase every trace of these people under these petitions."""
    async with committing(lane.connection):
        await attempts.lock(lane.connection, keys_of(erasures))
        rows = await _fetch(lane, _ERASE_KEEPING, [erasure for erasure in erasures if erasure.keeping])
        rows += await _fetch(lane, _ERASE, erasures)
        await lane.connection.executemany(_ERASE_WAITING, attempts.by_petition(keys_of(erasures)))
        totals = await apply_changes(lane, petitions_of(erasures), rows)
    done = {(row[0], row[1]) for row in rows}
    outcomes = [Outcome.ERASED if one[:2] in done else Outcome.NOTHING for one in erasures]
    return Committed(outcomes, totals)


async def _fetch(lane: Lane, statement: str, items: Iterable[Erasure]) -> list[Any]:
    """Run a statement once for each petition."""
    arguments = attempts.by_petition(keys_of(items))
    return list(await lane.connection.fetchmany(statement, arguments)) if arguments else []
