"""Transitions by a rule, chunk by chunk: many signatures are invalidated, restored, released or anonymized.

A chunk is a part of the key's range. A signer's key is as good as random, so chunks of equal ranges hold about as many
signatures. Each chunk is one short transaction: people who sign at the same time wait no longer than that, and a worker
that was interrupted goes on with the next chunk. Doing a chunk again changes nothing.

The database and the API call a chunk a slice (`slice`, `slice_count`).
"""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.people.consents.service import HAS_CONSENT_SQL
from app.signatures.engine import attempts, transitions
from app.signatures.engine.attempts import CONSENTS_DUE, CONSENTS_DUE_WAITING
from app.signatures.engine.lanes import Lane
from app.signatures.engine.transitions import ANONYMOUS, COUNTED, DELETE, EFFECTIVE_STATE, NO_MAIL_DUE, UPDATE

# Signatures in a chunk, as many as are changed in a fraction of a second.
CHUNK_SIZE = 10_000
_MOST_CHUNKS = 1 << 16
# Sorts after the last key: it is longer than any.
_END = b"\xff" * 17

# People's rows are locked first, in one pass in the order of their keys, as everybody locks them: of all whose attempt
# that stands, or one that waits, is to be changed. $2: the chunk's two edges.
_IN_CHUNK = "o.petition_id = $1 AND o.signer >= ($2::bytea[])[1] AND o.signer < ($2::bytea[])[2]"
_LOCK = f"""
    SELECT l.signer FROM signatures l WHERE l.petition_id = $1 AND l.signer IN (
        SELECT o.signer FROM signatures o WHERE {_IN_CHUNK} AND ({{standing}})
        UNION SELECT o.signer FROM signature_attempts o WHERE {_IN_CHUNK} AND ({{waiting}})
    ) AND {{uses}} ORDER BY l.signer FOR UPDATE
"""
# Sweeps lock attempts that wait without their people's rows.
_LOCK_WAITING = """
    SELECT FROM signature_attempts o WHERE o.petition_id = $1 AND o.signer = ANY ($2::bytea[])
    ORDER BY o.signer, o.id FOR UPDATE
"""
# Nothing but what has been locked is changed. $2: whose rows these are. What matches only since then is left to the
# next pass.
_OF_LOCKED = "o.petition_id = $1 AND o.signer = ANY ($2::bytea[])"
_LOCKED = f"""
    (SELECT o.signer, o.state, o.id, o.taken_back FROM signatures o WHERE {_OF_LOCKED} AND {{condition}}) AS old
"""
_WAITING = f"""
    UPDATE signature_attempts s SET {{changes}} FROM (
        SELECT o.signer, o.id, l.taken_back FROM signature_attempts o
        JOIN signatures l ON l.petition_id = o.petition_id AND l.signer = o.signer
        WHERE {_OF_LOCKED} AND {{condition}}
    ) AS old
    WHERE s.petition_id = $1 AND s.signer = old.signer AND s.id = old.id
    RETURNING s.petition_id, s.signer
"""


class _Statements(NamedTuple):
    """Whose rows are locked; what is done about attempts that wait, and then about those that stand."""

    lock: str
    waiting: str
    standing: str


def _both(changes: str, condition: str, uses: str) -> _Statements:
    """`uses`: every parameter of the changes. The server refuses one that a statement does not name."""
    lock = _LOCK.format(standing=condition, waiting=condition, uses=uses)
    standing = UPDATE.format(changes=changes, locked=_LOCKED.format(condition=condition))
    return _Statements(lock, _WAITING.format(changes=changes, condition=condition), standing)


INVALIDATES = "o.state IN ('pending', 'confirmed')"

# `{rule}` is a condition on the row `o`, whose parameters are numbered from this one on.
FIRST_RULE_PARAMETER = 4
_INVALIDATE = _both(
    changes=f"state = 'invalidated', state_before = s.state, invalidation_id = $3, {NO_MAIL_DUE}",
    condition=f"{INVALIDATES} AND {{rule}}",
    uses="$3::uuid IS NOT NULL",
)
# People who could not confirm meanwhile are asked again.
_RESTORE = _both(
    changes="""
        state = s.state_before, state_before = NULL, invalidation_id = NULL,
        mail_due_at = CASE WHEN s.state_before = 'pending' AND s.held IS NOT TRUE THEN now() END,
        mail_since = CASE WHEN s.state_before = 'pending' AND s.held IS NOT TRUE THEN now() END,
        due_mail = CASE WHEN s.state_before = 'pending' AND s.held IS NOT TRUE THEN 'confirm_signature' END
    """,
    condition="o.state = 'invalidated' AND o.invalidation_id = $3",
    uses="true",
)
# A signature on hold goes on as if nothing had happened: it counts, or its signer is asked to confirm ($4), as they are
# if they have proven before that they withdraw.
_BY_MAIL = "($4 OR old.taken_back IS TRUE)"
_RELEASE = _both(
    changes=f"""
        held = NULL,
        state = CASE WHEN {_BY_MAIL} OR s.state = 'invalidated' THEN s.state ELSE 'confirmed' END,
        state_before = CASE WHEN {_BY_MAIL} OR s.state_before IS NULL THEN s.state_before ELSE 'confirmed' END,
        mail_due_at = CASE WHEN {_BY_MAIL} AND s.state <> 'invalidated' THEN now() END,
        mail_since = CASE WHEN {_BY_MAIL} AND s.state <> 'invalidated' THEN now() END,
        due_mail = CASE WHEN {_BY_MAIL} AND s.state <> 'invalidated' THEN 'confirm_signature' END
    """,
    condition=f"{EFFECTIVE_STATE} = 'pending' AND o.held IS NOT NULL AND o.signed_at < $3",
    uses="$4::bool IS NOT NULL",
)
_WITHOUT_CONSENT = f"NOT {HAS_CONSENT_SQL.format(signer='o.signer')}"
# A signature whose consents are not in the ledger yet has to wait; those of invalidated signatures never get there.
_ENTERED = f"{CONSENTS_DUE.format(row='o')} IS NOT TRUE"
# Nor is a withdrawal forgotten that the organizations concerned have not been told of.
_ALL_ENTERED = f"""{_ENTERED} AND o.withdrawn_id IS NULL AND NOT EXISTS (
    SELECT FROM signature_attempts a WHERE a.petition_id = o.petition_id AND a.signer = o.signer
    AND ({CONSENTS_DUE_WAITING.format(row="a")} OR a.withdrawn_id IS NOT NULL)
)"""
_ANONYMIZED = f"{COUNTED} AND o.sealed <> '' AND {_ALL_ENTERED} AND {_WITHOUT_CONSENT}"
_FORGOTTEN = f"NOT {COUNTED} AND {_ALL_ENTERED} AND {_WITHOUT_CONSENT}"
_FORGOTTEN_WAITING = (
    f"{CONSENTS_DUE_WAITING.format(row='o')} IS NOT TRUE AND o.withdrawn_id IS NULL AND {_WITHOUT_CONSENT}"
)
_LOCK_FORGOTTEN = _LOCK.format(standing=f"({_ANONYMIZED}) OR ({_FORGOTTEN})", waiting=_FORGOTTEN_WAITING, uses="true")
# An anonymous row has an empty `sealed` and is passed over when it is met again.
_ANONYMIZE = UPDATE.format(changes=ANONYMOUS, locked=_LOCKED.format(condition=_ANONYMIZED))
_FORGET = DELETE.format(locked=_LOCKED.format(condition=_FORGOTTEN))
_FORGET_WAITING = f"""
    DELETE FROM signature_attempts o WHERE {_OF_LOCKED} AND {_FORGOTTEN_WAITING} RETURNING o.id
"""


class Rule(NamedTuple):
    """Which signatures, as SQL over the row `o`; the parameters are numbered from `FIRST_RULE_PARAMETER` on."""

    condition: str
    values: tuple[Any, ...]


class Chunk(NamedTuple):
    """A part of a petition's signatures: keys from `low` up to, but without, `high`."""

    petition_id: UUID
    low: bytes
    high: bytes


class ChunkResult(NamedTuple):
    """How many attempts of a chunk were changed, those that wait too; the petition's total in the lane that did it."""

    changed: int
    totals: dict[UUID, int]


def chunk_count(signature_count: int) -> int:
    """In how many chunks so many signatures are done."""
    return min(max(1, -(-signature_count // CHUNK_SIZE)), _MOST_CHUNKS)


def chunk_at(petition_id: UUID, number: int, count: int) -> Chunk:
    """Chunk `number` (from 0) of `count`."""
    low, high = ((edge << 64) // count for edge in (number, number + 1))
    return Chunk(petition_id, low.to_bytes(9)[1:], high.to_bytes(9)[1:] if number + 1 < count else _END)


async def invalidate(lane: Lane, chunk: Chunk, invalidation_id: UUID, rule: Rule) -> ChunkResult:
    """Invalidate what the rule matches, inside the caller's transaction on the lane's connection."""
    statements = _Statements(*(statement.format(rule=rule.condition) for statement in _INVALIDATE))
    return await _change(lane, chunk, statements, invalidation_id, *rule.values)


async def restore(lane: Lane, chunk: Chunk, invalidation_id: UUID) -> ChunkResult:
    """Restore what this invalidation has invalidated to the state it would have without it."""
    return await _change(lane, chunk, _RESTORE, invalidation_id)


async def release(lane: Lane, chunk: Chunk, signed_before: datetime, *, confirmed_by_mail: bool) -> ChunkResult:
    """Release what was put on hold before that moment."""
    return await _change(lane, chunk, _RELEASE, signed_before, confirmed_by_mail)


async def anonymize(lane: Lane, chunk: Chunk) -> ChunkResult:
    """Destroy the personal data of people without other consent: what counts stays nameless, the rest is deleted."""
    locked = await _lock(lane, chunk, _LOCK_FORGOTTEN)
    waiting = await lane.connection.fetch(_FORGET_WAITING, chunk.petition_id, locked)
    rows = await lane.connection.fetch(_ANONYMIZE, chunk.petition_id, locked)
    rows += await lane.connection.fetch(_FORGET, chunk.petition_id, locked)
    totals = await transitions.apply_changes(lane, {chunk.petition_id}, rows)
    return ChunkResult(len(waiting) + len(rows), totals)


async def _change(lane: Lane, chunk: Chunk, statements: _Statements, *values: Any) -> ChunkResult:
    """Where the attempt that stood does not count any more, or one that waits counts again, the next one stands."""
    locked = await _lock(lane, chunk, statements.lock, *values)
    waiting = await lane.connection.fetch(statements.waiting, chunk.petition_id, locked, *values)
    rows = await lane.connection.fetch(statements.standing, chunk.petition_id, locked, *values)
    changes = await attempts.stand_next(lane.connection, {(row[0], row[1]) for row in (*waiting, *rows)})
    totals = await transitions.apply_changes(lane, {chunk.petition_id}, rows, changes)
    return ChunkResult(len(waiting) + len(rows), totals)


async def _lock(lane: Lane, chunk: Chunk, statement: str, *values: Any) -> list[bytes]:
    """Lock what is to be changed, and every attempt of these people; their keys."""
    rows = await lane.connection.fetch(statement, chunk.petition_id, [chunk.low, chunk.high], *values)
    locked = [row[0] for row in rows]
    await lane.connection.execute(_LOCK_WAITING, chunk.petition_id, locked)
    return locked
