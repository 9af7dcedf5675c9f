"""Intake: the only code that writes signatures.

Whoever signs joins the batch that is being gathered and is answered when that batch's transaction has committed. A
batch closes as soon as the one before it has committed, so it is 1 when idle and grows with load. Statements are
each about one petition, named once as a parameter: on a Citus cluster a batch then commits on one node.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from app.kit.db import Connection, committing
from app.petitions.queries import ACCEPTING_SQL
from app.signatures import tallies
from app.signatures.lanes import Lane
from app.signatures.tallies import Facets

# Whoever withdrew may sign again; an import, which may be run twice, must not bring them back.
_SIGN = """
    INSERT INTO signatures AS s
        (petition_id, signer, id, signed_at, country, state, region, source, group_id, event_id, sealed)
    SELECT $1, n.signer, n.id, n.signed_at, n.country, 'confirmed', n.region, n.source, n.group_id, n.event_id, n.sealed
    FROM petitions p, unnest(
        $2::bytea[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
        $10::bytea[]
    ) AS n (signer, id, signed_at, country, region, source, group_id, event_id, sealed)
    WHERE p.id = $1
    AND {accepting}
    AND (p.allowed_countries IS NULL OR n.country = ANY (p.allowed_countries))
    ORDER BY n.signer
    ON CONFLICT (petition_id, signer) {on_conflict}
    RETURNING s.petition_id, s.signer
"""
# A loser's row is locked, so its transaction must be flushed like a winner's: both are answered after as long a time.
SIGN = _SIGN.format(
    accepting=ACCEPTING_SQL,
    on_conflict="""
    DO UPDATE SET (id, signed_at, country, state, region, source, group_id, event_id, sealed) =
        (excluded.id, excluded.signed_at, excluded.country, excluded.state, excluded.region, excluded.source,
         excluded.group_id, excluded.event_id, excluded.sealed)
    WHERE s.state = 'withdrawn'""",
)
IMPORT = _SIGN.format(accepting=ACCEPTING_SQL, on_conflict="DO NOTHING")

# Who did not win: has signed before, or was refused because the petition closed in this very moment? Once it is
# closed those who have signed are refused like all others: a stranger must not find them out by that.
_KNOWN = f"""
    SELECT s.petition_id, s.signer, s.id, s.state, {ACCEPTING_SQL} AS accepting, p.allowed_countries
    FROM signatures s, petitions p
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND p.id = $1
"""

_WITHDRAW = """
    UPDATE signatures SET state = 'withdrawn', sealed = ''
    WHERE petition_id = $1 AND signer = $2 AND id = $3 AND state = 'confirmed'
    RETURNING petition_id, signer, country, region, source, group_id, event_id, signed_at
"""


class Signing(NamedTuple):
    """One attempt to sign, ready for the database: digested, sealed, validated."""

    petition_id: UUID
    signer: bytes
    id: UUID
    facets: Facets
    sealed: bytes


class Withdrawal(NamedTuple):
    """One attempt to withdraw: the signature must still be the one the receipt came with."""

    petition_id: UUID
    signer: bytes
    id: UUID


class Outcome(Enum):
    """What became of an attempt. The public is told `COUNTED` and `DUPLICATE` in the same words."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    NOTHING = "nothing"


class Committed(NamedTuple):
    """A committed batch: an outcome per attempt, in order, and the moved petitions' totals in this lane."""

    outcomes: list[Outcome]
    totals: dict[UUID, int]


async def sign(lane: Lane, signings: Sequence[Signing], statement: str = SIGN) -> Committed:
    """Insert the signings in one transaction and move the tallies with them.

    Repeating it is harmless: a row that carries the attempt's own id was won by the first try.
    """
    firsts = {(s.petition_id, s.signer): s for s in reversed(signings)}
    ordered = sorted(firsts.values())
    async with committing(lane.connection):
        won = await _insert(lane.connection, ordered, statement)
        known = await _known(lane.connection, [s for s in ordered if (s.petition_id, s.signer) not in won])
        changes: dict[UUID, list[tuple[Facets, int]]] = defaultdict(list)
        for signing in ordered:
            key = (signing.petition_id, signing.signer)
            if key in won:
                changes[signing.petition_id].append((signing.facets, 1))
        totals = await _move(lane, {s.petition_id for s in ordered if s[:2] in won or s[:2] in known}, changes)
    return Committed([_outcome(s, won, known, firsts) for s in signings], totals)


def _by_petition(items: Iterable[Signing]) -> dict[UUID, list[Signing]]:
    grouped: dict[UUID, list[Signing]] = defaultdict(list)
    for item in items:
        grouped[item.petition_id].append(item)
    return grouped


async def _insert(connection: Connection, ordered: Sequence[Signing], statement: str) -> set[tuple[UUID, bytes]]:
    arguments = []
    for petition_id, signings in _by_petition(ordered).items():
        _, signers, ids, facets, sealed = zip(*signings, strict=True)
        countries, regions, sources, groups, events, moments = zip(*facets, strict=True)
        arguments.append((petition_id, signers, ids, moments, countries, regions, sources, groups, events, sealed))
    return {(row[0], row[1]) for row in await connection.fetchmany(statement, arguments)}


async def _known(connection: Connection, losers: Sequence[Signing]) -> dict[tuple[UUID, bytes], tuple[UUID, str]]:
    """The rows that stood in the losers' way: (id, state) by key. Asked of nobody too, so that it takes as long."""
    grouped = _by_petition(losers)
    arguments = [(petition_id, [s.signer for s in signings]) for petition_id, signings in grouped.items()]
    attempts = {(s.petition_id, s.signer): s for s in losers}
    known = {}
    for row in await connection.fetchmany(_KNOWN, arguments or [(UUID(int=0), [])]):
        petition_id, signer, id_, state, accepting, allowed = row
        attempt = attempts[petition_id, signer]
        accepted = accepting and (allowed is None or attempt.facets.country in allowed)
        if accepted or id_ == attempt.id:
            known[petition_id, signer] = (id_, state)
    return known


def _outcome(
    signing: Signing,
    won: set[tuple[UUID, bytes]],
    known: dict[tuple[UUID, bytes], tuple[UUID, str]],
    firsts: dict[tuple[UUID, bytes], Signing],
) -> Outcome:
    key = (signing.petition_id, signing.signer)
    if key in won:
        return Outcome.COUNTED if firsts[key] is signing else Outcome.DUPLICATE
    if key not in known:
        return Outcome.REFUSED
    id_, state = known[key]
    if state == "withdrawn":
        return Outcome.WITHDRAWN
    return Outcome.COUNTED if id_ == signing.id and state == "confirmed" else Outcome.DUPLICATE


async def withdraw(lane: Lane, withdrawals: Sequence[Withdrawal]) -> Committed:
    """Withdraw in one transaction, destroying the sealed data; what matches no confirmed row changes nothing."""
    changes: dict[UUID, list[tuple[Facets, int]]] = defaultdict(list)
    async with committing(lane.connection):
        gone = set()
        for row in await lane.connection.fetchmany(_WITHDRAW, sorted(set(withdrawals))):
            petition_id, signer, *facets = row
            gone.add((petition_id, signer))
            changes[petition_id].append((Facets(*facets), -1))
        totals = await _move(lane, {w.petition_id for w in withdrawals}, changes)
    outcomes = [Outcome.WITHDRAWN if (w.petition_id, w.signer) in gone else Outcome.NOTHING for w in withdrawals]
    return Committed(outcomes, totals)


async def _move(lane: Lane, touched: set[UUID], changes: dict[UUID, list[tuple[Facets, int]]]) -> dict[UUID, int]:
    """Move the tallies; those of a petition that was only touched by nought.

    A second signing, and a receipt that opens nothing, write and flush like the real ones: they take as long.
    """
    moves = {petition_id: tallies.moves_of(changes.get(petition_id, ())) for petition_id in touched}
    return await tallies.move(lane.connection, lane.number, moves)
