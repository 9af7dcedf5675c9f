"""The insert of signatures: one batch, one transaction, on conflict resolved by the key. Nothing else inserts them.

`sign` is called with a batch: those who signed while the batch before it was committing (`engine.py`). Each statement
is about one petition, which is its first parameter: on a Citus cluster such a batch commits on one node.

What happens to a signature afterwards is in `transitions.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.database.session import Connection, committing
from app.petitions.queries import ACCEPTING_SQL
from app.signatures.dimensions import TallyKeys
from app.signatures.engine import tallies
from app.signatures.engine.lanes import Lane

# A newer attempt replaces a pending one. If a partner sent the replaced attempt, the partner and the attempt's id are
# kept beside the signature, the last one of each partner: as long as this person has a signature, these partners must
# be told what becomes of it (`background/withdrawal_messages.py`, `me/service.py`). The columns keep their first names.
SUPERSEDED_PARTNER_IDS = """
    CASE WHEN s.partner_id IS NULL THEN s.brought_by
    ELSE array_append(array_remove(s.brought_by, s.partner_id), s.partner_id) END
"""
SUPERSEDED_ATTEMPT_IDS = """
    CASE WHEN s.partner_id IS NULL THEN s.brought_ids ELSE array_append(
        array_remove(s.brought_ids, s.brought_ids[array_position(s.brought_by, s.partner_id)]), s.id
    ) END
"""

# One statement for all sources; they differ in whom they may replace (`replaceable`) and who is asked to confirm by
# mail (`mailed`). Nobody has proven a pending attempt yet, so the newest one replaces it: somebody who signs in another
# person's name first, or from an address over the limit, cannot keep that person out. `mail_count` is never reset, so
# that nobody can be sent more mails by signing again.
_INSERT = f"""
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
         {SUPERSEDED_PARTNER_IDS}, {SUPERSEDED_ATTEMPT_IDS})
    WHERE {{replaceable}}
    RETURNING s.petition_id, s.signer, s.state
"""
# People who sign themselves. Whoever withdrew may sign again. A row that is not replaced is locked all the same, so its
# transaction is flushed like any other: a second signing takes as long as a first.
FROM_SIGNER = _INSERT.format(
    accepting=ACCEPTING_SQL,
    state="CASE WHEN n.held IS NOT NULL OR p.confirmation = 'email' THEN 'pending' ELSE 'confirmed' END",
    mailed="n.held IS NOT TRUE AND (n.held IS FALSE OR p.confirmation = 'email')",
    replaceable="s.state = 'withdrawn'"
    " OR s.state = 'pending' AND s.id <> excluded.id AND (excluded.held IS NOT TRUE OR s.held)",
)
# A file that staff import. They answer for it, so nobody in it is asked to confirm. It may be run twice, so it does not
# bring back anybody who has withdrawn.
FROM_IMPORT = _INSERT.format(
    accepting=ACCEPTING_SQL,
    state="'confirmed'",
    mailed="false",
    replaceable="s.state = 'pending' AND s.id <> excluded.id",
)
# What a partner posts. It may post the same again days later, so it does not bring back anybody who has withdrawn. Nor
# does it replace its own attempt: the mail of that one is on its way, with the consents it is to confirm.
FROM_PARTNER = _INSERT.format(
    accepting=ACCEPTING_SQL,
    state="CASE p.confirmation WHEN 'email' THEN 'pending' ELSE 'confirmed' END",
    mailed="p.confirmation = 'email'",
    replaceable="s.state = 'pending' AND s.id <> excluded.id"
    " AND (s.held OR s.partner_id IS DISTINCT FROM excluded.partner_id)",
)

# Why was an attempt not inserted: had the person signed before, or has the petition closed in this very moment? Once it
# is closed, people who have signed are refused like everybody else: the answer must not tell who had signed.
_EXISTING = f"""
    SELECT s.petition_id, s.signer, s.id, s.state, {ACCEPTING_SQL} AS accepting, p.allowed_countries,
        p.confirmation, s.country, s.region, s.source, s.group_id, s.event_id, s.signed_at
    FROM signatures s, petitions p
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND p.id = $1
"""
# Where signatures are confirmed by mail, a person who signs again is told so by mail. So is everybody ($4) who has to
# confirm because their address is over a limit: a mail to the others alone would tell that they had not signed. Where
# mails confirm, the statement runs in every batch, even for nobody, so that a second signing takes as long as a first.
_REMIND = """
    UPDATE signatures s SET mail_due_at = now(), mail_since = now(), due_mail = 'already_signed'
    FROM petitions p
    WHERE s.petition_id = $1 AND s.signer = $2 AND s.id <> $3 AND p.id = $1 AND (p.confirmation = 'email' OR $4)
    AND s.state = 'confirmed' AND s.due_mail IS NULL AND coalesce(s.mail_count, 0) < 5
"""


class AbuseSignals(NamedTuple):
    """Where a signature came from and what it waits for. A flag is True or None: a NULL takes no space in the row.

    `on_hold` is more than that: over a limit, a signature waits for staff (True), or for its signer to confirm it by
    mail, also where others need not (False).
    """

    address_digest: bytes | None = None
    domain_digest: bytes | None = None
    disposable: bool | None = None
    partner_id: UUID | None = None
    on_hold: bool | None = None
    consents_due: bool | None = None


class Signing(NamedTuple):
    """One attempt to sign, ready for the database: digested, sealed, validated."""

    petition_id: UUID
    signer: bytes
    id: UUID
    sealed: bytes
    tally_keys: TallyKeys
    signals: AbuseSignals = AbuseSignals()


class Outcome(Enum):
    """What became of an attempt. The public is told `COUNTED`, `PENDING` and `DUPLICATE` in the same words.

    `INVALID`: the database refuses a value of it. `NOTHING`: no row was there to change.
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
    """A committed batch: an outcome per attempt, in order, and the total in this lane of each petition it touched."""

    outcomes: list[Outcome]
    totals: dict[UUID, int]


class _Existing(NamedTuple):
    """The row that an attempt met and did not replace. `counts`: it is part of the tallies of an unproven petition."""

    id: UUID
    state: str
    tally_keys: TallyKeys
    counts: bool
    mailed: bool


_Key = tuple[UUID, bytes]
_NOBODY = (UUID(int=0), b"", UUID(int=0), False)
_OUTCOMES = {"confirmed": Outcome.COUNTED, "pending": Outcome.PENDING}


async def sign(lane: Lane, signings: Sequence[Signing], statement: str = FROM_SIGNER) -> Committed:
    """Insert the signings and add them to the tallies, in one transaction.

    Repeating it is harmless: a row that has the attempt's own id was inserted by an earlier try.
    """
    # If one person signs several times in a batch, the first attempt is taken; one that is on hold gives way to others.
    last_first = list(reversed(signings))
    last_first.sort(key=_is_on_hold, reverse=True)
    chosen = {(s.petition_id, s.signer): s for s in last_first}
    ordered = sorted(chosen.values())
    async with committing(lane.connection):
        inserted = await _insert(lane.connection, ordered, statement)
        skipped = [s for s in ordered if s[:2] not in inserted]
        existing = await _find_existing(lane.connection, skipped)
        if statement is FROM_SIGNER and (_confirms_by_mail(inserted, existing) or any(map(_is_asked, skipped))):
            again = [(*s[:3], _is_asked(s)) for s in skipped if s[:2] in existing and s.signals.on_hold is not True]
            await lane.connection.executemany(_REMIND, again or [_NOBODY])
        petition_ids = {petition_id for petition_id, _ in (*inserted, *existing)}
        deltas = _deltas(ordered, inserted, existing)
        totals = await tallies.apply_deltas(lane.connection, lane.number, petition_ids, deltas)
    return Committed([_outcome(s, inserted, existing, chosen) for s in signings], totals)


def _is_on_hold(signing: Signing) -> bool:
    return signing.signals.on_hold is not None


def _is_asked(signing: Signing) -> bool:
    """Whether its signer is to confirm it by mail, also where others need not."""
    return signing.signals.on_hold is False


def _confirms_by_mail(inserted: Mapping[_Key, str], existing: Mapping[_Key, _Existing]) -> bool:
    """Whether any petition of this batch confirms by mail; if none does, nobody waits for a statement about mails."""
    return "pending" in inserted.values() or any(row.mailed for row in existing.values())


def _deltas(
    ordered: Sequence[Signing], inserted: Mapping[_Key, str], existing: Mapping[_Key, _Existing]
) -> Iterator[tuple[UUID, TallyKeys, int]]:
    """One for each new confirmed signature; zero for one that was there already, so that it takes as long."""
    for signing in ordered:
        if inserted.get(signing[:2]) == "confirmed":
            yield signing.petition_id, signing.tally_keys, 1
    for (petition_id, _), row in existing.items():
        if row.counts:
            yield petition_id, row.tally_keys, 0


def _by_petition(items: Iterable[Signing]) -> dict[UUID, list[Signing]]:
    grouped: dict[UUID, list[Signing]] = defaultdict(list)
    for item in items:
        grouped[item.petition_id].append(item)
    return grouped


async def _insert(connection: Connection, ordered: Sequence[Signing], statement: str) -> dict[_Key, str]:
    """The states of the inserted rows, by key."""
    arguments = []
    for petition_id, signings in _by_petition(ordered).items():
        _, signers, ids, sealed, tally_keys, signals = zip(*signings, strict=True)
        columns = map(_column, (*zip(*tally_keys, strict=True), *zip(*signals, strict=True)))
        arguments.append((petition_id, signers, ids, sealed, *columns))
    return {(row[0], row[1]): row[2] for row in await connection.fetchmany(statement, arguments)}


def _column(values: Sequence[Any]) -> Sequence[Any] | None:
    """None instead of a column of nothing but None: the driver would look at each of its elements."""
    return None if values.count(None) == len(values) else values


async def _find_existing(connection: Connection, skipped: Sequence[Signing]) -> dict[_Key, _Existing]:
    """The rows that these attempts met, by key. Runs for nobody too, so that a first signing takes as long."""
    grouped = _by_petition(skipped)
    arguments = [(petition_id, [s.signer for s in signings]) for petition_id, signings in grouped.items()]
    attempts = {s[:2]: s for s in skipped}
    existing = {}
    for row in await connection.fetchmany(_EXISTING, arguments or [(UUID(int=0), [])]):
        petition_id, signer, id_, state, accepting, allowed, confirmation, *keys = row
        attempt = attempts[petition_id, signer]
        accepted = accepting and (allowed is None or attempt.tally_keys.country in allowed)
        if accepted or id_ == attempt.id:
            counts = state == "confirmed" and confirmation == "none"
            existing[petition_id, signer] = _Existing(id_, state, TallyKeys(*keys), counts, confirmation == "email")
    return existing


def _outcome(
    signing: Signing, inserted: Mapping[_Key, str], existing: Mapping[_Key, _Existing], chosen: Mapping[_Key, Signing]
) -> Outcome:
    key = signing[:2]
    if key in inserted:
        taken = chosen[key]
        return _OUTCOMES[inserted[key]] if taken is signing or taken.id == signing.id else Outcome.DUPLICATE
    if key not in existing:
        return Outcome.REFUSED
    row = existing[key]
    if row.state == "withdrawn":
        return Outcome.WITHDRAWN
    return _OUTCOMES.get(row.state, Outcome.DUPLICATE) if row.id == signing.id else Outcome.DUPLICATE
