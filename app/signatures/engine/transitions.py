"""State transitions by key: a signature is confirmed, withdrawn or erased, many at once in one batch.

Transitions by a rule (invalidate, restore, release, anonymize) are in `chunks.py`. Each transition is one transaction
that changes the tallies together with the signatures, by the difference between what counted before and what counts
after.

An invalidated signature can still be confirmed and withdrawn. That changes `state_before`, the state to which it is
restored when the invalidation is undone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.database.session import committing
from app.signatures.dimensions import TallyKeys
from app.signatures.engine import tallies
from app.signatures.engine.insert import SUPERSEDED_ATTEMPT_IDS, SUPERSEDED_PARTNER_IDS, Committed, Outcome
from app.signatures.engine.lanes import Lane

# Rows are locked in the order of their key, as the insert locks them, so that two batches cannot deadlock. `old` is
# what a row was before.
_LOCKED_BY_KEY = """
    (SELECT o.signer, o.state, o.id FROM signatures o
     WHERE o.petition_id = $1 AND o.signer = ANY ($2::bytea[]) AND {condition}
     ORDER BY o.signer FOR UPDATE) AS old
"""
# Whether the row holds one of the attempts given ($2, $3), and not another attempt of the same person.
_IS_GIVEN = "({row}.signer, {row}.id) IN (SELECT n.signer, n.id FROM unnest($2::bytea[], $3::uuid[]) AS n (signer, id))"
# What `apply_changes` reads, by position; the change of the count and the old id follow.
_RETURNING = "s.petition_id, old.signer, s.country, s.region, s.source, s.group_id, s.event_id, s.signed_at"
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
_WITHOUT_PERSON = f"""
    sealed = '', address_digest = NULL, domain_digest = NULL, disposable = NULL, held = NULL, consents_due = NULL,
    proven = NULL,
    {NO_MAIL_DUE}
"""
# What is left counts, but belongs to nobody: even the time is cut to the hour.
ANONYMOUS = f"""
    signer = uuid_send(gen_random_uuid()), id = gen_random_uuid(), signed_at = date_trunc('hour', s.signed_at, 'UTC'),
    mail_count = NULL, withdrawn_id = NULL, brought_by = NULL, brought_ids = NULL, {_WITHOUT_PERSON}
"""
# The state without regard to an invalidation.
EFFECTIVE_STATE = "coalesce(o.state_before, o.state)"
COUNTED = f"{EFFECTIVE_STATE} = 'confirmed'"


def _becoming(state: str) -> str:
    """The SET clause that gives a signature this state; of an invalidated one it sets the state to be restored."""
    return f"""
        state = CASE s.state WHEN 'invalidated' THEN s.state ELSE '{state}' END,
        state_before = CASE s.state WHEN 'invalidated' THEN '{state}' END
    """


# If the link of another attempt confirms it, the signature takes that attempt's id. A partner that sent the attempt
# whose id is lost still knows it by that id: it is kept among the superseded ones.
_NOTHING_SUPERSEDED = f"s.partner_id IS NULL OR {_IS_GIVEN.format(row='s')}"
# Every link proves the mailbox, so each of them confirms the signature. But the consents in the row are proven only by
# the link of that same attempt: another attempt may have been made by a stranger. The stranger's receipt then opens
# nothing either.
_CONFIRM = UPDATE.format(
    changes=f"""{_becoming("confirmed")}, {NO_MAIL_DUE}, held = NULL,
        consents_due = CASE WHEN {_IS_GIVEN.format(row="s")} THEN s.consents_due END,
        proven = CASE WHEN {_IS_GIVEN.format(row="s")} THEN true END,
        brought_by = CASE WHEN {_NOTHING_SUPERSEDED} THEN s.brought_by ELSE {SUPERSEDED_PARTNER_IDS} END,
        brought_ids = CASE WHEN {_NOTHING_SUPERSEDED} THEN s.brought_ids ELSE {SUPERSEDED_ATTEMPT_IDS} END,
        id = CASE WHEN {_IS_GIVEN.format(row="s")} THEN s.id ELSE (
            SELECT n.id FROM unnest($2::bytea[], $3::uuid[]) AS n (signer, id) WHERE n.signer = s.signer LIMIT 1
        ) END""",
    locked=_LOCKED_BY_KEY.format(
        condition=f"{EFFECTIVE_STATE} = 'pending' AND o.held IS NOT TRUE"
        " AND EXISTS (SELECT 1 FROM petitions p WHERE p.id = $1 AND p.state <> 'archived')"
    ),
)
_STANDS = f"{EFFECTIVE_STATE} IN ('pending', 'confirmed')"
# If several attempts are withdrawn before anybody was told (`withdrawal_messages.py`), the first one is the one known.
_WITHDRAWN = f"{_becoming('withdrawn')}, withdrawn_id = coalesce(s.withdrawn_id, s.id), {_WITHOUT_PERSON}"
_WITHDRAW = UPDATE.format(
    changes=_WITHDRAWN, locked=_LOCKED_BY_KEY.format(condition=f"{_STANDS} AND {_IS_GIVEN.format(row='o')}")
)
_WITHDRAW_OWN = UPDATE.format(changes=_WITHDRAWN, locked=_LOCKED_BY_KEY.format(condition=_STANDS))
# A receipt that opens nothing, of a person who has signed: the row and its tallies are written unchanged, so that it
# takes as long as a withdrawal and a stranger learns nothing. A withdrawal changes an indexed column and so writes to
# indexes too. So does this: it changes `consents_due` between NULL and false, which mean the same.
_PAD_TIMING = f"""
    UPDATE signatures s SET consents_due = CASE WHEN s.consents_due IS NULL THEN false
        WHEN s.consents_due THEN true END
    WHERE s.petition_id = $1 AND s.signer = $2 AND s.id <> $3
    RETURNING {_RETURNING.replace("old.", "s.")}, s.state
"""
# A person who is erased may let the signature count on: then a nameless row stays. Everything else of theirs is
# deleted.
_ERASE_KEEPING = UPDATE.format(changes=ANONYMOUS, locked=_LOCKED_BY_KEY.format(condition=COUNTED))
_ERASE = DELETE.format(locked=_LOCKED_BY_KEY.format(condition="true"))


class Confirmation(NamedTuple):
    """Somebody has followed the link of this attempt and pressed the button."""

    petition_id: UUID
    signer: bytes
    id: UUID


class Withdrawal(NamedTuple):
    """Withdraw a signature: by the receipt of this attempt, or (`id` is None) as the signed-in person."""

    petition_id: UUID
    signer: bytes
    id: UUID | None


class Erasure(NamedTuple):
    """Erase a person's signature; with `keeping`, one that counts stays as a nameless row."""

    petition_id: UUID
    signer: bytes
    keeping: bool
    id: None = None


ByKey = Confirmation | Withdrawal | Erasure
_NOBODY = Withdrawal(UUID(int=0), b"", UUID(int=0))


async def confirm(lane: Lane, confirmations: Sequence[Confirmation]) -> Committed:
    """Confirm what is pending; it counts from this commit on. Anything else stays as it is."""
    async with committing(lane.connection):
        rows = await _fetch(lane, _CONFIRM, confirmations, with_ids=True)
        totals = await apply_changes(lane, _petitions(confirmations), rows)
    return Committed(_outcomes(confirmations, rows, Outcome.CONFIRMED), totals)


async def withdraw(lane: Lane, withdrawals: Sequence[Withdrawal]) -> Committed:
    """Withdraw and destroy the personal data; a withdrawal that matches no signature changes nothing."""
    by_receipt = {withdrawal for withdrawal in withdrawals if withdrawal.id}
    async with committing(lane.connection):
        rows = await _fetch(lane, _WITHDRAW, by_receipt, with_ids=True)
        opened = {Withdrawal(row[0], row[1], row[9]) for row in rows}
        rows += await _fetch(lane, _WITHDRAW_OWN, set(withdrawals) - by_receipt)
        padded = await lane.connection.fetchmany(_PAD_TIMING, sorted(by_receipt - opened) or [_NOBODY])
        unchanged = [row for row in padded if row[8] == "confirmed"]
        totals = await apply_changes(lane, _petitions(withdrawals), rows, unchanged)
    done = opened | {Withdrawal(row[0], row[1], None) for row in rows}
    return Committed([Outcome.WITHDRAWN if one in done else Outcome.NOTHING for one in withdrawals], totals)


async def erase(lane: Lane, erasures: Sequence[Erasure]) -> Committed:
    """Erase every trace of these people under these petitions."""
    async with committing(lane.connection):
        rows = await _fetch(lane, _ERASE_KEEPING, [erasure for erasure in erasures if erasure.keeping])
        rows += await _fetch(lane, _ERASE, erasures)
        totals = await apply_changes(lane, _petitions(erasures), rows)
    return Committed(_outcomes(erasures, rows, Outcome.ERASED), totals)


async def apply_changes(
    lane: Lane, petition_ids: Iterable[UUID], rows: Iterable[Any], unchanged: Iterable[Any] = ()
) -> dict[UUID, int]:
    """Apply to the tallies what `UPDATE` and `DELETE` returned; write those of unchanged rows with a change of zero.

    Returns the totals of these petitions in this lane.
    """
    changes = [(row[0], TallyKeys(*row[2:8]), row[8]) for row in rows if row[8]]
    changes += [(row[0], TallyKeys(*row[2:8]), 0) for row in unchanged]
    return await tallies.apply_deltas(lane.connection, lane.number, petition_ids, changes)


async def _fetch(lane: Lane, statement: str, items: Iterable[ByKey], *, with_ids: bool = False) -> list[Any]:
    """Run a statement once for each petition; `with_ids`: its third parameter is the attempts' ids."""
    grouped: dict[UUID, list[ByKey]] = defaultdict(list)
    for item in items:
        grouped[item.petition_id].append(item)
    arguments = []
    for petition_id, chosen in sorted(grouped.items()):
        columns = [[item.signer for item in chosen], [item.id for item in chosen]]
        arguments.append((petition_id, *columns) if with_ids else (petition_id, columns[0]))
    return list(await lane.connection.fetchmany(statement, arguments)) if arguments else []


def _petitions(items: Iterable[ByKey]) -> set[UUID]:
    return {item.petition_id for item in items}


def _keys(rows: Iterable[Any]) -> set[tuple[UUID, bytes]]:
    return {(row[0], row[1]) for row in rows}


def _outcomes(items: Sequence[ByKey], rows: Iterable[Any], changed: Outcome) -> list[Outcome]:
    done = _keys(rows)
    return [changed if (item.petition_id, item.signer) in done else Outcome.NOTHING for item in items]
