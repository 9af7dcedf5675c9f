"""Contacts: what each organization is shown of a person, taken from the attempt that brought the consent to it.

Nothing that the person told anybody else is among it. A contact goes when the consent is taken back, or when the
attempt that it came with is withdrawn and nobody has proven it.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing
from app.people.consents.service import Entry
from app.people.models import Contact
from app.people.queries import latest_of_all
from app.people.sealing import Details, seal_contact


class Told(NamedTuple):
    """A consent that was given with an attempt, and what the attempt says of the person."""

    entry: Entry
    details: Details


async def remember(session: AsyncSession, ring: KeyRing, told: Iterable[Told]) -> None:
    """Keep what these consents came with, if they stand in the ledger, where they have been entered before.

    A proven one replaces what is kept; another one only what is not proven.
    """
    latest: dict[tuple[UUID, bytes], Told] = {}
    for one in sorted(await _standing(session, told), key=lambda one: (one.entry.proven, one.entry.decided_at)):
        latest[one.entry.organization_id, one.entry.signer] = one
    if not latest:
        return
    statement = insert(Contact).values([_row(ring, latest[key]) for key in sorted(latest)])
    new = statement.excluded
    is_newer = tuple_(new.proven, new.decided_at) >= tuple_(Contact.proven, Contact.decided_at)
    changes = {name: new[name] for name in ("sealed", "attempt_id", "proven", "decided_at")}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Contact.organization_id, Contact.signer], set_=changes, where=is_newer
        )
    )


async def _standing(session: AsyncSession, told: Iterable[Told]) -> list[Told]:
    """Without those that were taken back, be it in the same transaction, or before an old one came late."""
    given = [one for one in told if one.entry.given]
    latest = await latest_of_all(session, {one.entry.signer for one in given}) if given else {}
    return [one for one in given if latest[one.entry.key].given]


def _row(ring: KeyRing, one: Told) -> dict[str, object]:
    entry = one.entry
    return {
        "organization_id": entry.organization_id,
        "signer": entry.signer,
        "sealed": seal_contact(ring, entry.organization_id, entry.signer, one.details),
        "attempt_id": entry.attempt_id,
        "proven": entry.proven,
        "decided_at": entry.decided_at,
    }


async def forget_attempts(session: AsyncSession, attempt_ids: Collection[UUID]) -> None:
    """Delete the contacts of attempts that were withdrawn, unless somebody has proven the consent."""
    if attempt_ids:
        gone = delete(Contact).where(Contact.attempt_id.in_(attempt_ids), ~Contact.proven)
        await session.execute(gone)
