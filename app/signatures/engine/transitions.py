"""Transitions by key: what confirming, withdrawing and erasing have in common.

Each is one transaction that changes the tallies together with the signatures, by the difference between what counted
before and what counts after: `confirm.py`, `withdraw.py`, `erase.py`. Transitions by a rule (invalidate, restore,
release, anonymize) are in `chunks.py`.

An invalidated signature can still be confirmed and withdrawn. That changes `state_before`, the state to which it is
restored when the invalidation is undone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from app.signatures.dimensions import TallyKeys
from app.signatures.engine import tallies
from app.signatures.engine.attempts import KEYS, Change, Key
from app.signatures.engine.lanes import Lane

# `old` is what a row was before. `apply_changes` reads this by position; the change of the count and the old id follow.
_RETURNING = f"s.petition_id, old.signer, {KEYS.format(row='s')}"
UPDATE = f"""
    UPDATE signatures s SET {{changes}} FROM {{locked}}
    WHERE s.petition_id = $1 AND s.signer = old.signer
    RETURNING {_RETURNING}, (s.state = 'confirmed')::int - (old.state = 'confirmed')::int, old.id
"""
DELETE = f"""
    DELETE FROM signatures s USING {{locked}}
    WHERE s.petition_id = $1 AND s.signer = old.signer
    RETURNING {_RETURNING}, -(old.state = 'confirmed')::int, old.id
"""

NO_MAIL_DUE = "mail_due_at = NULL, mail_since = NULL, due_mail = NULL"
WITHOUT_PERSON = f"""
    sealed = '', address_digest = NULL, domain_digest = NULL, disposable = NULL, held = NULL, consents_due = NULL,
    accepted_consents = NULL, accepted_at = NULL, proven = NULL,
    {NO_MAIL_DUE}
"""
# What is left counts, but belongs to nobody: even the time is cut to the hour.
ANONYMOUS = f"""
    signer = uuid_send(gen_random_uuid()), id = gen_random_uuid(), signed_at = date_trunc('hour', s.signed_at, 'UTC'),
    mail_count = NULL, withdrawn_id = NULL, brought_by = NULL, brought_ids = NULL, taken_back = NULL, imported = NULL,
    {WITHOUT_PERSON}
"""
# The state without regard to an invalidation.
EFFECTIVE_STATE = "coalesce(o.state_before, o.state)"
COUNTED = f"{EFFECTIVE_STATE} = 'confirmed'"


def becoming(state: str) -> str:
    """The SET clause that gives an attempt `s` this state; of an invalidated one it sets the state to be restored."""
    return f"""
        state = CASE s.state WHEN 'invalidated' THEN s.state ELSE '{state}' END,
        state_before = CASE s.state WHEN 'invalidated' THEN '{state}' END
    """


# The attempts given ($2, $3), each with a value of its own ($4).
GIVEN = "unnest($2::bytea[], $3::uuid[], $4::{type}[]) AS n (signer, id, value)"
IS_GIVEN = "s.petition_id = $1 AND s.signer = n.signer AND s.id = n.id"
STANDS = "coalesce(s.state_before, s.state) IN ('pending', 'confirmed')"


class Confirmation(NamedTuple):
    """Somebody has followed the link of this attempt and pressed the button. Bit n of `accepted`: its n-th consent."""

    petition_id: UUID
    signer: bytes
    id: UUID
    accepted: int = 0


class Withdrawal(NamedTuple):
    """Withdraw an attempt by its receipt, or (`id` is None) all of them as the signed-in person.

    `proven`: the receipt was given to whoever reads the mailbox.
    """

    petition_id: UUID
    signer: bytes
    id: UUID | None
    proven: bool = False


class Erasure(NamedTuple):
    """Erase a person's signature; with `keeping`, one that counts stays as a nameless row."""

    petition_id: UUID
    signer: bytes
    keeping: bool
    id: None = None


ByKey = Confirmation | Withdrawal | Erasure
# No attempt at all, for a statement that runs for nobody too.
NOBODY: tuple[Any, ...] = (UUID(int=0), [], [], [])
# Somebody's attempt: its petition, signer and id.
Attempt: TypeAlias = tuple[UUID, bytes, UUID]


async def apply_changes(
    lane: Lane, petition_ids: Iterable[UUID], rows: Iterable[Any], changes: Iterable[Change] = ()
) -> dict[UUID, int]:
    """Apply to the tallies what `UPDATE` and `DELETE` returned, and further changes; these petitions' totals here."""
    every = [(row[0], TallyKeys(*row[2:8]), row[8]) for row in rows if row[8]] + list(changes)
    return await tallies.apply_deltas(lane.connection, lane.number, petition_ids, every)


def given(items: Sequence[ByKey], values: Sequence[object]) -> list[tuple[Any, ...]]:
    """Arguments of a statement about given attempts, petition by petition: signers, ids, and a value of each.

    An attempt is given once, with the first of its values: what comes later changes nothing.
    """
    first: dict[Any, object] = {}
    for one, value in zip(items, values, strict=True):
        first.setdefault(one[:3], value)
    grouped: dict[UUID, list[Any]] = defaultdict(list)
    for key in sorted(first):
        grouped[key[0]].append(key)
    return [
        (petition_id, [key[1] for key in keys], [key[2] for key in keys], [first[key] for key in keys])
        for petition_id, keys in grouped.items()
    ]


def petitions_of(items: Iterable[ByKey]) -> set[UUID]:
    """The petitions that these are about."""
    return {item.petition_id for item in items}


def keys_of(items: Iterable[ByKey]) -> set[Key]:
    """The people under petitions that these are about."""
    return {item[:2] for item in items}
