"""Attempts that meet a person's row wait beside it (`docs/decisions/0022-an-attempt-is-not-a-person.md`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.database.session import Connection
from app.signatures.dimensions import TallyKeys
from app.signatures.engine import attempts
from app.signatures.engine.attempts import Change, Key
from app.signatures.engine.signings import Origin, Signing, by_petition, columns_of

# Attempts that wait. Of too many public ones, those that came with this batch among them, the oldest give way: of the
# client that has the most of this person, so that one client pushes nobody else's out. Of a partner, and of imports,
# one is enough.
_GIVEN = """
    unnest(
        $2::bytea[], $3::uuid[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
        $10::timestamptz[], $11::bytea[], $12::bytea[], $13::bool[], $14::uuid[], $15::bool[], $16::bool[],
        $17::text[], $18::text[], $19::bool[]
    ) AS n (signer, id, sealed, country, region, source, group_id, event_id, signed_at,
            address_digest, domain_digest, disposable, partner_id, held, consents_due, state, mail, imported)
"""
_INSERT = """
    INSERT INTO signature_attempts
        (petition_id, signer, id, signed_at, country, state, region, source, group_id, event_id, sealed,
         address_digest, domain_digest, disposable, partner_id, imported, held, consents_due,
         mail_due_at, mail_since, due_mail)
    SELECT $1, n.signer, n.id, n.signed_at, n.country, n.state, n.region, n.source, n.group_id, n.event_id, n.sealed,
        n.address_digest, n.domain_digest, n.disposable, n.partner_id, n.imported, n.held, n.consents_due,
        CASE WHEN n.mail IS NOT NULL THEN now() END, CASE WHEN n.mail IS NOT NULL THEN now() END, n.mail
    FROM {given} WHERE CASE WHEN n.partner_id IS NULL AND n.imported IS NULL THEN {is_placed}
    ELSE NOT EXISTS (
        SELECT FROM signature_attempts a WHERE a.petition_id = $1 AND a.signer = n.signer
        AND (a.partner_id = n.partner_id OR a.imported AND n.imported)
    ) END
    ON CONFLICT DO NOTHING
"""
# Where there is room: that is nearly always, and the statement runs for everybody.
_WAIT = _INSERT.format(given=_GIVEN, is_placed="true")
_MAKE_ROOM_AND_WAIT = f"""
    WITH n AS (SELECT * FROM {_GIVEN}), public AS (
        SELECT o.signer, o.id, o.address_digest
        FROM signature_attempts o WHERE o.petition_id = $1 AND o.signer = ANY ($2::bytea[])
        AND o.proven IS NULL AND o.partner_id IS NULL AND o.imported IS NULL AND o.state <> 'withdrawn'
        UNION
        SELECT n.signer, n.id, n.address_digest FROM n WHERE n.partner_id IS NULL AND n.imported IS NULL
    ), excess AS (
        SELECT signer, id FROM (
            SELECT signer, id, row_number() OVER (PARTITION BY signer ORDER BY of_client, id DESC) AS place FROM (
                SELECT signer, id,
                    row_number() OVER (PARTITION BY signer, address_digest ORDER BY id DESC) AS of_client
                FROM public
            ) AS by_client
        ) AS placed WHERE place > {attempts.MOST_WAITING}
    ), gone AS (
        DELETE FROM signature_attempts a USING excess e
        WHERE a.petition_id = $1 AND a.signer = e.signer AND a.id = e.id
    )
""" + _INSERT.format(given="n", is_placed="NOT EXISTS (SELECT FROM excess e WHERE e.signer = n.signer AND e.id = n.id)")
# Those of these attempts that stand and count, and that wait: the same is said of an attempt however often it is tried.
_COUNTED = """
    SELECT s.id FROM signatures s
    WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) AND s.id = ANY ($3::uuid[]) AND s.state = 'confirmed'
"""
_WAITING = """
    SELECT a.id FROM signature_attempts a
    WHERE a.petition_id = $1 AND a.signer = ANY ($2::bytea[]) AND a.id = ANY ($3::uuid[]) AND a.state = 'pending'
"""
_NOBODY = (UUID(int=0), *([] for _ in range(18)))


class Existing(NamedTuple):
    """The row that an attempt met. `counts`: it is part of the tallies of an unproven petition."""

    id: UUID
    state: str
    proven: bool
    taken_back: bool
    partner_id: UUID | None
    imported: bool
    mailed: bool
    waiting_count: int
    tally_keys: TallyKeys

    @property
    def counts(self) -> bool:
        return self.state == "confirmed" and not self.mailed


def further(signings: Sequence[Signing], chosen: Mapping[Key, Signing], origin: Origin) -> list[Signing]:
    """The other attempts of those who are several times in this batch; of those that somebody vouches for, one each."""
    if origin is Origin.IMPORT or len(chosen) == len(signings):
        return []
    found: dict[tuple[object, ...], Signing] = {}
    for signing in signings:
        taken, partner_id = chosen[signing[:2]], signing.signals.partner_id
        if not origin.attested and signing.id != taken.id:
            found.setdefault((*signing[:2], signing.id), signing)
        elif origin.attested and partner_id != taken.signals.partner_id:
            found.setdefault((*signing[:2], partner_id), signing)
    return list(found.values())


class Placed(NamedTuple):
    """What became of attempts that met a row: who counts now by them, which of them are pending, what it changed."""

    counted: set[UUID]
    pending: set[UUID]
    changes: list[Change]


async def wait(
    connection: Connection, origin: Origin, met: Sequence[Signing], existing: Mapping[Key, Existing]
) -> Placed:
    """Let attempts wait beside what they met. Runs for nobody too, so that a first signing takes as long."""
    waiting = [s for s in met if (row := existing.get(s[:2])) is not None and _waits(origin, s, row)]
    states = {s.id: _state(origin, s, existing[s[:2]]) for s in waiting}
    arguments: list[tuple[Any, ...]] = []
    for petition_id, signings in by_petition(sorted(waiting)).items():
        mails = [_mail(origin, s, states[s.id]) for s in signings]
        imported = [origin is Origin.IMPORT or None] * len(signings)
        placed = ([states[s.id] for s in signings], mails, imported)
        arguments.append((petition_id, *columns_of(signings, attested=origin.attested), *placed))
    of_person = Counter(s[:2] for s in waiting)
    is_full = any(existing[key].waiting_count + more > attempts.MOST_WAITING for key, more in of_person.items())
    await connection.executemany(_MAKE_ROOM_AND_WAIT if is_full else _WAIT, arguments or [_NOBODY])
    # An attempt that counts takes the place of one that does not.
    changes = await attempts.stand_next(
        connection, {s[:2] for s in waiting if states[s.id] == "confirmed" and existing[s[:2]].state == "pending"}
    )
    return Placed(*await _placed(connection, origin, met), changes)


async def _placed(connection: Connection, origin: Origin, met: Sequence[Signing]) -> tuple[set[UUID], set[UUID]]:
    """Of attempts that somebody vouches for: which stand and count, and which wait for their mail."""
    if not origin.attested or not met:
        return set(), set()
    grouped = by_petition(met).items()
    arguments = [(id_, [s.signer for s in signings], [s.id for s in signings]) for id_, signings in grouped]
    counted = await connection.fetchmany(_COUNTED, arguments)
    pending = await connection.fetchmany(_WAITING, arguments)
    return {row[0] for row in counted}, {row[0] for row in pending}


def _waits(origin: Origin, signing: Signing, row: Existing) -> bool:
    """Whether an attempt is kept beside the row it met."""
    if row.id == signing.id or row.state == "withdrawn":
        return False
    if not origin.attested:
        return True
    # What is proven needs nobody to vouch for it; and a partner, or an import, brings somebody once.
    partner_id = signing.signals.partner_id
    is_its_own = row.imported if origin is Origin.IMPORT else partner_id is not None and row.partner_id == partner_id
    return not is_its_own and not row.taken_back and not (row.proven and row.state == "confirmed")


def _state(origin: Origin, signing: Signing, row: Existing) -> str:
    """The state of an attempt that waits. Who has taken back, or is invalidated, counts by a proof alone."""
    if signing.signals.on_hold is not None or row.taken_back or row.state == "invalidated":
        return "pending"
    return "pending" if row.mailed and origin is not Origin.IMPORT else "confirmed"


def _mail(origin: Origin, signing: Signing, state: str) -> str | None:
    """The mail that an attempt which waits is to bring: the one that a first signing brings, whatever stands.

    Else whoever sees the mailbox, the mail server or the wire would learn who had signed.
    """
    if signing.signals.on_hold or origin is Origin.IMPORT:
        return None
    if state == "pending":
        return "confirm_signature"
    return "confirm_consents" if not origin.attested and signing.signals.consents_due else None
