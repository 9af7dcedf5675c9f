"""The insert of signatures: one batch, one transaction, on conflict resolved by the key. Nothing else inserts them.

`sign` is called with a batch: those who signed while the batch before it was committing (`engine.py`). Each statement
is about one petition, which is its first parameter: on a Citus cluster such a batch commits on one node.

What happens to a signature afterwards is in `transitions.py`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from app.kit.database.session import Connection, committing
from app.petitions.queries import ACCEPTING_SQL
from app.signatures.dimensions import TallyKeys
from app.signatures.engine import tallies, waiting
from app.signatures.engine.attempts import KEYS, Change, Key
from app.signatures.engine.lanes import Lane
from app.signatures.engine.signings import Committed, Origin, Outcome, Signing, by_petition, columns_of
from app.signatures.engine.waiting import Existing, Placed

# Whoever signs again replaces what was withdrawn. If a partner had sent that, the partner and the attempt's id are kept
# beside the signature, the last one of each partner: as long as this person has a signature, these partners must be
# told what becomes of it (`background/withdrawal_messages.py`, `me/service.py`). The columns keep their first names.
SUPERSEDED_PARTNER_IDS = """
    CASE WHEN s.partner_id IS NULL THEN s.brought_by
    ELSE array_append(array_remove(s.brought_by, s.partner_id), s.partner_id) END
"""
SUPERSEDED_ATTEMPT_IDS = """
    CASE WHEN s.partner_id IS NULL THEN s.brought_ids ELSE array_append(
        array_remove(s.brought_ids, s.brought_ids[array_position(s.brought_by, s.partner_id)]), s.id
    ) END
"""

# One statement for all ways in; they differ in who counts (`state`), who is mailed what (`mail`), who vouches for it,
# and whom of those who have withdrawn they may bring again (`again`). Where an attempt stands, the row is not changed,
# but locked: the attempt waits beside it (`waiting.py`).
_INSERT = f"""
    INSERT INTO signatures AS s
        (petition_id, signer, id, signed_at, country, state, region, source, group_id, event_id, sealed,
         address_digest, domain_digest, disposable, partner_id, imported, held, consents_due,
         mail_due_at, mail_since, due_mail)
    SELECT $1, n.signer, n.id, n.signed_at, n.country, {{state}}, n.region, n.source, n.group_id, n.event_id, n.sealed,
        n.address_digest, n.domain_digest, n.disposable, n.partner_id, {{imported}}, n.held, {{consents_due}},
        CASE WHEN {{mail}} IS NOT NULL THEN now() END, CASE WHEN {{mail}} IS NOT NULL THEN now() END, {{mail}}
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
        (id, signed_at, country, region, source, group_id, event_id, sealed, address_digest, domain_digest,
         disposable, partner_id, imported, held, consents_due) =
        (excluded.id, excluded.signed_at, excluded.country, excluded.region, excluded.source,
         excluded.group_id, excluded.event_id, excluded.sealed, excluded.address_digest, excluded.domain_digest,
         excluded.disposable, excluded.partner_id, excluded.imported, excluded.held, excluded.consents_due),
        (proven, accepted_consents, accepted_at, mail_count, brought_by, brought_ids) =
        (NULL, NULL, NULL, NULL, {SUPERSEDED_PARTNER_IDS}, {SUPERSEDED_ATTEMPT_IDS}),
        taken_back = CASE WHEN s.taken_back THEN true END,
        state = CASE WHEN s.taken_back THEN 'pending' ELSE excluded.state END,
        due_mail = CASE
            WHEN s.taken_back AND excluded.held IS NOT TRUE THEN 'confirm_signature' ELSE excluded.due_mail
        END,
        (mail_due_at, mail_since) = (
            CASE WHEN s.taken_back AND excluded.held IS NOT TRUE THEN now() ELSE excluded.mail_due_at END,
            CASE WHEN s.taken_back AND excluded.held IS NOT TRUE THEN now() ELSE excluded.mail_since END
        )
    WHERE s.state = 'withdrawn' AND {{again}}
    RETURNING s.petition_id, s.signer, s.state
"""
# People who sign themselves. Whoever withdrew may sign again; if they have proven that withdrawal, only the link makes
# it count. Where no mail confirms, a mail asks whoever is said to consent to something.
FROM_SIGNER = _INSERT.format(
    accepting=ACCEPTING_SQL,
    state="CASE WHEN n.held IS NOT NULL OR p.confirmation = 'email' THEN 'pending' ELSE 'confirmed' END",
    mail="CASE WHEN n.held THEN NULL WHEN n.held IS FALSE OR p.confirmation = 'email' THEN 'confirm_signature'"
    " WHEN n.consents_due THEN 'confirm_consents' END",
    imported="NULL::boolean",
    consents_due="NULL::boolean",
    again="true",
)
# A withdrawal that nobody has proven is nobody's word. Of those of the version before nobody knows.
_NOT_PROVEN = "s.taken_back IS FALSE"
# A file that staff import. They answer for it, so nobody in it is asked to confirm. It may be run twice, so it does not
# bring back anybody who has withdrawn.
FROM_IMPORT = _INSERT.format(
    accepting=ACCEPTING_SQL,
    state="'confirmed'",
    mail="NULL::text",
    imported="true",
    consents_due="n.consents_due",
    again=_NOT_PROVEN,
)
# What a partner posts. It may post the same again days later, so it does not bring back anybody who has withdrawn.
FROM_PARTNER = _INSERT.format(
    accepting=ACCEPTING_SQL,
    state="CASE p.confirmation WHEN 'email' THEN 'pending' ELSE 'confirmed' END",
    mail="CASE p.confirmation WHEN 'email' THEN 'confirm_signature' END",
    imported="NULL::boolean",
    consents_due="n.consents_due",
    again=_NOT_PROVEN,
)

# Why was an attempt not inserted: had the person signed before, or has the petition closed in this very moment? Once it
# is closed, people who have signed are refused like everybody else: the answer must not tell who had signed.
_EXISTING = f"""
    SELECT s.petition_id, s.signer, s.id, s.state, s.proven IS TRUE, s.taken_back IS TRUE, s.partner_id,
        s.imported IS TRUE AS imported,
        {ACCEPTING_SQL} AS accepting, p.allowed_countries, p.confirmation,
        (SELECT count(*) FROM signature_attempts a WHERE a.petition_id = s.petition_id AND a.signer = s.signer),
        {KEYS.format(row="s")}
    FROM signatures s, petitions p
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND p.id = $1
"""
_STATEMENTS = {Origin.SIGNER: FROM_SIGNER, Origin.IMPORT: FROM_IMPORT, Origin.PARTNER: FROM_PARTNER}
_OUTCOMES = {"confirmed": Outcome.COUNTED, "pending": Outcome.PENDING}


async def sign(lane: Lane, signings: Sequence[Signing], origin: Origin = Origin.SIGNER) -> Committed:
    """Insert the signings and add them to the tallies, in one transaction.

    Repeating it is harmless: an attempt that has been inserted by an earlier try is known by its id.
    """
    # If one person signs several times in a batch, the first attempt stands; one that is on hold gives way to others.
    last_first = list(reversed(signings))
    last_first.sort(key=_is_on_hold, reverse=True)
    chosen = {(s.petition_id, s.signer): s for s in last_first}
    ordered = sorted(chosen.values())
    async with committing(lane.connection):
        inserted = await _insert(lane.connection, ordered, origin)
        met = [s for s in ordered if s[:2] not in inserted] + waiting.further(signings, chosen, origin)
        existing = await _find_existing(lane.connection, met)
        placed = await waiting.wait(lane.connection, origin, met, existing)
        petition_ids = {petition_id for petition_id, _ in (*inserted, *existing)}
        deltas = [*_deltas(ordered, inserted, existing), *placed.changes]
        totals = await tallies.apply_deltas(lane.connection, lane.number, petition_ids, deltas)
    return Committed([_outcome(s, inserted, existing, chosen, placed) for s in signings], totals)


def _is_on_hold(signing: Signing) -> bool:
    return signing.signals.on_hold is not None


def _deltas(
    ordered: Sequence[Signing], inserted: Mapping[Key, str], existing: Mapping[Key, Existing]
) -> Iterator[Change]:
    """One for each new confirmed signature; zero for one that was there already, so that it takes as long."""
    for signing in ordered:
        if inserted.get(signing[:2]) == "confirmed":
            yield signing.petition_id, signing.tally_keys, 1
    for (petition_id, _), row in existing.items():
        if row.counts:
            yield petition_id, row.tally_keys, 0


async def _insert(connection: Connection, ordered: Sequence[Signing], origin: Origin) -> dict[Key, str]:
    """The states of the inserted rows, by key."""
    arguments = [(id_, *columns_of(signings, attested=True)) for id_, signings in by_petition(ordered).items()]
    return {(row[0], row[1]): row[2] for row in await connection.fetchmany(_STATEMENTS[origin], arguments)}


async def _find_existing(connection: Connection, met: Sequence[Signing]) -> dict[Key, Existing]:
    """The rows that these attempts met, by key. Runs for nobody too, so that a first signing takes as long."""
    grouped = by_petition(met)
    arguments = [(petition_id, [s.signer for s in signings]) for petition_id, signings in grouped.items()]
    tried = _by_person(met)
    existing = {}
    for row in await connection.fetchmany(_EXISTING, arguments or [(UUID(int=0), [])]):
        petition_id, signer, id_, state, proven, taken_back, partner_id, imported, *more = row
        accepting, allowed, confirmation, waiting_count, *keys = more
        tries = tried[petition_id, signer]
        accepted = accepting and (allowed is None or all(one.tally_keys.country in allowed for one in tries))
        if accepted or id_ in {one.id for one in tries}:
            existing[petition_id, signer] = Existing(
                *(id_, state, proven, taken_back, partner_id, imported),
                *(confirmation == "email", waiting_count, TallyKeys(*keys)),
            )
    return existing


def _by_person(met: Sequence[Signing]) -> dict[Key, list[Signing]]:
    """A person may be several times in a batch."""
    grouped: dict[Key, list[Signing]] = defaultdict(list)
    for signing in met:
        grouped[signing[:2]].append(signing)
    return grouped


def _outcome(
    signing: Signing,
    inserted: Mapping[Key, str],
    existing: Mapping[Key, Existing],
    chosen: Mapping[Key, Signing],
    placed: Placed,
) -> Outcome:
    key = signing[:2]
    if key in inserted:
        is_taken = chosen[key].id == signing.id or (inserted[key] == "pending" and signing.id in placed.pending)
        return _OUTCOMES[inserted[key]] if is_taken else Outcome.DUPLICATE
    if key not in existing:
        return Outcome.REFUSED
    row = existing[key]
    if row.state == "withdrawn":
        return Outcome.WITHDRAWN
    if signing.id in placed.counted:
        return Outcome.COUNTED
    if signing.id in placed.pending and row.state == "pending":
        return Outcome.PENDING
    return _OUTCOMES.get(row.state, Outcome.DUPLICATE) if row.id == signing.id else Outcome.DUPLICATE
