"""Intake: the only code that inserts signatures.

Whoever signs joins the batch that is being gathered and is answered when that batch's transaction has committed. A
batch closes as soon as the one before it has committed, so it is 1 when idle and grows with load. Statements are
each about one petition, named once as a parameter: on a Citus cluster a batch then commits on one node.

What happens to a signature afterwards is in `transitions.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.database.session import Connection, committing
from app.petitions.queries import ACCEPTING_SQL
from app.signatures.engine import tallies
from app.signatures.engine.lanes import Lane
from app.signatures.engine.tallies import TallyKeys

# Attempts that partners brought and that others take the place of, the last of each partner: while a signature of this
# person stands, those who brought one must hear what becomes of it (`withdrawal_messages.py`, `service.py`).
BROUGHT_BY = """
    CASE WHEN s.partner_id IS NULL THEN s.brought_by
    ELSE array_append(array_remove(s.brought_by, s.partner_id), s.partner_id) END
"""
BROUGHT_IDS = """
    CASE WHEN s.partner_id IS NULL THEN s.brought_ids ELSE array_append(
        array_remove(s.brought_ids, s.brought_ids[array_position(s.brought_by, s.partner_id)]), s.id
    ) END
"""

# Whoever withdrew may sign again; an import, which may be run twice, must not bring them back. What is pending nobody
# has vouched for yet, so the newest attempt stands in its place: whoever signs for somebody else before them, or from
# an address over the limit, does not keep them out. The mails somebody was sent stay counted through it all.
_SIGN = f"""
    INSERT INTO signatures AS s
        (petition_id, signer, id, signed_at, country, state, region, source, group_id, event_id, sealed,
         address_digest, domain_digest, disposable, partner_id, held, consents_due, mail_due_at, mail_since, due_mail)
    SELECT $1, n.signer, n.id, n.signed_at, n.country, {{state}}, n.region, n.source, n.group_id, n.event_id, n.sealed,
        n.address_digest, n.domain_digest, n.disposable, n.partner_id, n.held, n.consents_due,
        CASE WHEN {{mailed}} THEN now() END, CASE WHEN {{mailed}} THEN now() END,
        CASE WHEN {{mailed}} THEN 'confirm_signature' END
    FROM petitions p, unnest(
        $2::bytea[], $3::uuid[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
        $10::timestamptz[], $11::bytea[], $12::bytea[], $13::bool[], $14::uuid[], $15::bool[], $16::bool[]
    ) AS n (signer, id, sealed, country, region, source, group_id, event_id, signed_at,
            address_digest, domain_digest, disposable, partner_id, held, consents_due)
    WHERE p.id = $1
    AND {{accepting}}
    AND (p.allowed_countries IS NULL OR n.country = ANY (p.allowed_countries))
    ORDER BY n.signer
    ON CONFLICT (petition_id, signer) DO UPDATE SET
        (id, signed_at, country, state, region, source, group_id, event_id, sealed, address_digest, domain_digest,
         disposable, partner_id, held, consents_due, mail_due_at, mail_since, due_mail, proven,
         brought_by, brought_ids) =
        (excluded.id, excluded.signed_at, excluded.country, excluded.state, excluded.region, excluded.source,
         excluded.group_id, excluded.event_id, excluded.sealed, excluded.address_digest, excluded.domain_digest,
         excluded.disposable, excluded.partner_id, excluded.held, excluded.consents_due, excluded.mail_due_at,
         excluded.mail_since, excluded.due_mail, NULL,
         {BROUGHT_BY}, {BROUGHT_IDS})
    WHERE {{makes_way}}
    RETURNING s.petition_id, s.signer, s.state
"""
# A loser's row is locked, so its transaction must be flushed like a winner's: both are answered after as long a time.
SIGN = _SIGN.format(
    accepting=ACCEPTING_SQL,
    state="CASE WHEN n.held OR p.confirmation = 'email' THEN 'pending' ELSE 'confirmed' END",
    mailed="n.held IS NULL AND p.confirmation = 'email'",
    makes_way="s.state = 'withdrawn'"
    " OR s.state = 'pending' AND s.id <> excluded.id AND (excluded.held IS NULL OR s.held)",
)
# Whoever brings a file answers for it: nobody in it is asked to confirm.
IMPORT = _SIGN.format(
    accepting=ACCEPTING_SQL,
    state="'confirmed'",
    mailed="false",
    makes_way="s.state = 'pending' AND s.id <> excluded.id",
)

# A partner may post the same again, days later and after somebody has withdrawn: that must not bring them back. Nor may
# it take the place of what it has itself brought: that one's mail is under way, with the consents it is to confirm.
BRING = _SIGN.format(
    accepting=ACCEPTING_SQL,
    state="CASE p.confirmation WHEN 'email' THEN 'pending' ELSE 'confirmed' END",
    mailed="p.confirmation = 'email'",
    makes_way="s.state = 'pending' AND s.id <> excluded.id"
    " AND (s.held OR s.partner_id IS DISTINCT FROM excluded.partner_id)",
)

# Who did not win: has signed before, or was refused because the petition closed in this very moment? Once it is
# closed those who have signed are refused like all others: a stranger must not find them out by that.
_KNOWN = f"""
    SELECT s.petition_id, s.signer, s.id, s.state, {ACCEPTING_SQL} AS accepting, p.allowed_countries,
        p.confirmation, s.country, s.region, s.source, s.group_id, s.event_id, s.signed_at
    FROM signatures s, petitions p
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND p.id = $1
"""
# Whoever signs again where signatures are confirmed by mail is told by mail. There it is asked in every batch, of
# nobody too, so that it takes as long; it is the row that says whether a mail is due.
_REMIND = """
    UPDATE signatures s SET mail_due_at = now(), mail_since = now(), due_mail = 'already_signed'
    FROM petitions p
    WHERE s.petition_id = $1 AND s.signer = $2 AND s.id <> $3 AND p.id = $1 AND p.confirmation = 'email'
    AND s.state = 'confirmed' AND s.due_mail IS NULL AND coalesce(s.mail_count, 0) < 5
"""


class AbuseSignals(NamedTuple):
    """What a signature leaves behind besides its facets; None takes no room. A flag is True or None."""

    address_digest: bytes | None = None
    domain_digest: bytes | None = None
    disposable: bool | None = None
    partner_id: UUID | None = None
    held: bool | None = None
    consents_due: bool | None = None


class Signing(NamedTuple):
    """One attempt to sign, ready for the database: digested, sealed, validated."""

    petition_id: UUID
    signer: bytes
    id: UUID
    sealed: bytes
    facets: TallyKeys
    traces: AbuseSignals = AbuseSignals()


class Outcome(Enum):
    """What became of an attempt. The public is told `COUNTED`, `PENDING` and `DUPLICATE` in the same words.

    `INVALID`: the database takes no such values.
    """

    COUNTED = "counted"
    PENDING = "pending"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    INVALID = "invalid"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    ERASED = "erased"
    NOTHING = "nothing"


class Committed(NamedTuple):
    """A committed batch: an outcome per attempt, in order, and the moved petitions' totals in this lane."""

    outcomes: list[Outcome]
    totals: dict[UUID, int]


class _Known(NamedTuple):
    """The row that stood in a loser's way."""

    id: UUID
    state: str
    facets: TallyKeys
    moves: bool
    mailed: bool


_Key = tuple[UUID, bytes]
_NOBODY = (UUID(int=0), b"", UUID(int=0))
_TAKEN = {"confirmed": Outcome.COUNTED, "pending": Outcome.PENDING}


async def sign(lane: Lane, signings: Sequence[Signing], statement: str = SIGN) -> Committed:
    """Insert the signings in one transaction and move the tallies with them.

    Repeating it is harmless: a row that carries the attempt's own id was won by the first try.
    """
    # Of several by one person the first one stands, but one that is held keeps no other out.
    last_first = list(reversed(signings))
    last_first.sort(key=_is_held, reverse=True)
    firsts = {(s.petition_id, s.signer): s for s in last_first}
    ordered = sorted(firsts.values())
    async with committing(lane.connection):
        won = await _insert(lane.connection, ordered, statement)
        losers = [s for s in ordered if s[:2] not in won]
        known = await _known(lane.connection, losers)
        if statement is SIGN and _is_mailed(won, known):
            reminded = [s[:3] for s in losers if s[:2] in known and not _is_held(s)]
            await lane.connection.executemany(_REMIND, reminded or [_NOBODY])
        touched = {petition_id for petition_id, _ in (*won, *known)}
        totals = await tallies.apply_deltas(lane.connection, lane.number, touched, _changes(ordered, won, known))
    return Committed([_outcome(s, won, known, firsts) for s in signings], totals)


def _is_held(signing: Signing) -> bool:
    return signing.traces.held is not None


def _is_mailed(won: Mapping[_Key, str], known: Mapping[_Key, _Known]) -> bool:
    """Whether signatures of this batch may be confirmed by mail: elsewhere nobody waits for a statement about it."""
    return "pending" in won.values() or any(row.mailed for row in known.values())


def _changes(
    ordered: Sequence[Signing], won: Mapping[_Key, str], known: Mapping[_Key, _Known]
) -> Iterator[tuple[UUID, TallyKeys, int]]:
    """What the batch moves: whoever counts by one; what stands already by nought, so that it takes as long."""
    for signing in ordered:
        if won.get(signing[:2]) == "confirmed":
            yield signing.petition_id, signing.facets, 1
    for (petition_id, _), row in known.items():
        if row.moves:
            yield petition_id, row.facets, 0


def _by_petition(items: Iterable[Signing]) -> dict[UUID, list[Signing]]:
    grouped: dict[UUID, list[Signing]] = defaultdict(list)
    for item in items:
        grouped[item.petition_id].append(item)
    return grouped


async def _insert(connection: Connection, ordered: Sequence[Signing], statement: str) -> dict[_Key, str]:
    """The states of those who won, by key."""
    arguments = []
    for petition_id, signings in _by_petition(ordered).items():
        _, signers, ids, sealed, facets, traces = zip(*signings, strict=True)
        columns = map(_column, (*zip(*facets, strict=True), *zip(*traces, strict=True)))
        arguments.append((petition_id, signers, ids, sealed, *columns))
    return {(row[0], row[1]): row[2] for row in await connection.fetchmany(statement, arguments)}


def _column(values: Sequence[Any]) -> Sequence[Any] | None:
    """A column in which nobody has anything is sent as none at all: the driver would look at each of its elements."""
    return None if values.count(None) == len(values) else values


async def _known(connection: Connection, losers: Sequence[Signing]) -> dict[_Key, _Known]:
    """The rows that stood in the losers' way, by key. Asked of nobody too, so that it takes as long."""
    grouped = _by_petition(losers)
    arguments = [(petition_id, [s.signer for s in signings]) for petition_id, signings in grouped.items()]
    attempts = {s[:2]: s for s in losers}
    known = {}
    for row in await connection.fetchmany(_KNOWN, arguments or [(UUID(int=0), [])]):
        petition_id, signer, id_, state, accepting, allowed, confirmation, *facets = row
        attempt = attempts[petition_id, signer]
        accepted = accepting and (allowed is None or attempt.facets.country in allowed)
        if accepted or id_ == attempt.id:
            moves = state == "confirmed" and confirmation == "none"
            known[petition_id, signer] = _Known(id_, state, TallyKeys(*facets), moves, confirmation == "email")
    return known


def _outcome(
    signing: Signing, won: Mapping[_Key, str], known: Mapping[_Key, _Known], firsts: Mapping[_Key, Signing]
) -> Outcome:
    key = signing[:2]
    if key in won:
        first = firsts[key]
        return _TAKEN[won[key]] if first is signing or first.id == signing.id else Outcome.DUPLICATE
    if key not in known:
        return Outcome.REFUSED
    row = known[key]
    if row.state == "withdrawn":
        return Outcome.WITHDRAWN
    return _TAKEN.get(row.state, Outcome.DUPLICATE) if row.id == signing.id else Outcome.DUPLICATE
