"""Attempts beside the one that stands: they wait, take its place, and are destroyed.

Which attempt stands is decided here alone (`docs/decisions/0022-an-attempt-is-not-a-person.md`). Whoever calls this has
locked the persons' rows of `signatures` (`lock`, or the insert): these locks also guard `signature_attempts`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from app.kit.database.session import Connection
from app.signatures.dimensions import TallyKeys

# A person under a petition.
Key: TypeAlias = tuple[UUID, bytes]
# A change of the tallies: the petition, what is counted by, and by how many.
Change: TypeAlias = tuple[UUID, TallyKeys, int]

# Public unproven attempts of one person under one petition that wait.
MOST_WAITING = 8
# What is kept of an attempt, wherever it is (`models.AttemptColumns`), without the state that follows from its place.
CONTENT = (
    *("id", "signed_at", "country", "state", "region", "source", "group_id", "event_id", "sealed", "address_digest"),
    *("domain_digest", "disposable", "partner_id", "imported", "held", "mail_due_at", "mail_since", "due_mail"),
    *(
        "mail_count",
        "consents_due",
        "accepted_consents",
        "accepted_at",
        "proven",
        "invalidation_id",
        "state_before",
        "withdrawn_id",
    ),
)
_CONTENT = ", ".join(CONTENT)
# All attempts under a petition, those that stand and those that wait. What staff see of where they come from is counted
# among these: a number that only the first of a person moved would tell who had signed.
ATTEMPTS = (
    "(SELECT {columns} FROM signatures s WHERE s.petition_id = {{petition}}"
    " UNION ALL SELECT {columns} FROM signature_attempts s WHERE s.petition_id = {{petition}})"
).format(columns=", ".join(("s.petition_id", "s.signer", *(f"s.{name}" for name in CONTENT))))
# Whose consents are to be entered in the ledger: what is proven, and what somebody vouches for as long as it stands.
CONSENTS_DUE = (
    "({row}.consents_due AND {row}.state = 'confirmed'"
    " AND ({row}.proven OR {row}.partner_id IS NOT NULL OR {row}.imported))"
)
CONSENTS_DUE_WAITING = "({row}.consents_due AND {row}.state = 'confirmed' AND {row}.proven)"
# What `TallyKeys` is made of, of the row `{row}`.
KEYS = "{row}.country, {row}.region, {row}.source, {row}.group_id, {row}.event_id, {row}.signed_at"

_LOCK = f"""
    SELECT s.petition_id, s.signer, s.id, s.state, s.proven IS TRUE,
        {KEYS.format(row="s")}
    FROM signatures s WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[]) ORDER BY s.signer FOR UPDATE
"""
# Who stands next. One that counts comes before one that waits for its mail, then the oldest. What is proven and
# restored takes its place again from what is not proven.
_NEXT = """
    SELECT DISTINCT ON (a.signer) a.petition_id, a.signer, a.id
    FROM signature_attempts a JOIN signatures s ON s.petition_id = a.petition_id AND s.signer = a.signer
    WHERE a.petition_id = $1 AND a.signer = ANY ($2::bytea[]) AND a.held IS NOT TRUE AND s.taken_back IS NOT TRUE
    AND (
        a.state = 'confirmed' AND (s.state <> 'confirmed' OR a.proven AND s.proven IS NOT TRUE)
        OR a.state = 'pending' AND s.state = 'withdrawn'
    )
    ORDER BY a.signer, a.state = 'confirmed' DESC, a.proven IS TRUE DESC, a.id
"""
_PROVEN = """
    SELECT a.petition_id, a.signer, a.id FROM signature_attempts a
    WHERE a.petition_id = $1 AND a.signer = ANY ($2::bytea[]) AND a.id = ANY ($3::uuid[]) AND a.proven
"""
# A sweep locks an attempt without its person's row. What it does is part of what is copied: else consents would be
# entered twice, and mails sent twice.
_LOCK_CHOSEN = """
    SELECT FROM signature_attempts a, unnest($2::bytea[], $3::uuid[]) AS n (signer, id)
    WHERE a.petition_id = $1 AND a.signer = n.signer AND a.id = n.id
    ORDER BY a.signer, a.id FOR UPDATE OF a
"""
# Of an attempt that is withdrawn no more is kept than what somebody is to be told, or who must not bring it again.
_STEP_ASIDE = f"""
    INSERT INTO signature_attempts (petition_id, signer, {_CONTENT})
    SELECT s.petition_id, s.signer, {", ".join(f"s.{name}" for name in CONTENT)}
    FROM signatures s WHERE s.petition_id = $1 AND s.signer = ANY ($2::bytea[])
    AND (s.state <> 'withdrawn' OR s.withdrawn_id IS NOT NULL OR s.partner_id IS NOT NULL OR s.imported)
"""
_TAKE_PLACE = f"""
    UPDATE signatures s SET taken_back = NULL, {", ".join(f"{name} = a.{name}" for name in CONTENT)}
    FROM signature_attempts a, unnest($2::bytea[], $3::uuid[]) AS n (signer, id),
        (SELECT * FROM signatures o WHERE o.petition_id = $1 AND o.signer = ANY ($2::bytea[])) AS old
    WHERE s.petition_id = $1 AND s.signer = n.signer AND old.signer = n.signer
    AND a.petition_id = $1 AND a.signer = n.signer AND a.id = n.id
    RETURNING s.petition_id, old.state = 'confirmed', s.state = 'confirmed',
        {KEYS.format(row="old")}, {KEYS.format(row="s")}
"""
_LEAVE = """
    DELETE FROM signature_attempts a USING unnest($2::bytea[], $3::uuid[]) AS n (signer, id)
    WHERE a.petition_id = $1 AND a.signer = n.signer AND a.id = n.id
"""
_NOBODY: tuple[Any, ...] = (UUID(int=0), [], [])


class Standing(NamedTuple):
    """A person's locked row: the attempt that stands."""

    petition_id: UUID
    signer: bytes
    id: UUID
    state: str
    proven: bool
    tally_keys: TallyKeys


async def lock(connection: Connection, keys: Iterable[Key]) -> dict[Key, Standing]:
    """Lock these people's rows until the transaction ends, in the order of their keys, as everybody locks them."""
    rows = await connection.fetchmany(_LOCK, by_petition(keys)) if keys else []
    return {(row[0], row[1]): _standing(row) for row in rows}


def _standing(row: Any) -> Standing:
    return Standing(row[0], row[1], row[2], row[3], row[4], TallyKeys(*row[5:]))


async def proven_among(connection: Connection, arguments: Sequence[Sequence[Any]]) -> set[tuple[UUID, bytes, UUID]]:
    """Those that wait and are proven, of the attempts in these arguments (petition by petition: signers, ids, more)."""
    first_three = [tuple(one[:3]) for one in arguments] or [(UUID(int=0), [], [])]
    return {tuple(row) for row in await connection.fetchmany(_PROVEN, first_three)}


async def stand_next(connection: Connection, keys: Iterable[Key], *, padded: bool = False) -> list[Change]:
    """Let the next attempt stand wherever the one that stands does not count; the changes of the tallies.

    `padded`: all statements run for nobody too, so that the time does not tell who has another attempt.
    """
    if not keys and not padded:
        return []
    rows = await connection.fetchmany(_NEXT, by_petition(keys) or [_NOBODY[:2]])
    return await take_place(connection, {(row[0], row[1]): row[2] for row in rows}, padded=padded)


async def take_place(connection: Connection, chosen: Mapping[Key, UUID], *, padded: bool = False) -> list[Change]:
    """Let these attempts stand; what stood before waits beside them. The changes of the tallies."""
    if not chosen and not padded:
        return []
    arguments = by_petition(chosen, chosen) or [_NOBODY]
    await connection.executemany(_LOCK_CHOSEN, arguments)
    await connection.executemany(_STEP_ASIDE, by_petition(chosen) or [_NOBODY[:2]])
    rows = await connection.fetchmany(_TAKE_PLACE, arguments)
    await connection.executemany(_LEAVE, arguments)
    return [change for row in rows for change in _changes(row)]


def _changes(row: Any) -> list[Change]:
    petition_id, counted, counts, *keys = row
    changes = [(petition_id, TallyKeys(*keys[:6]), -1)] if counted else []
    return changes + ([(petition_id, TallyKeys(*keys[6:]), 1)] if counts else [])


def by_petition(keys: Iterable[Key], *columns: Mapping[Key, object]) -> list[tuple[Any, ...]]:
    """Arguments of a statement about one petition: its id, its people's keys in order, and what each column says."""
    grouped: dict[UUID, list[Key]] = defaultdict(list)
    for key in sorted(set(keys)):
        grouped[key[0]].append(key)
    return [
        (petition_id, [key[1] for key in chosen], *([column[key] for key in chosen] for column in columns))
        for petition_id, chosen in grouped.items()
    ]
