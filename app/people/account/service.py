"""Remembering a person, showing and changing what is kept of one."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import false, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import log
from app.kit.problems import Conflict
from app.people import queries
from app.people.models import Person
from app.people.sealing import Details, open_details, reseal_details, seal_details

# What is kept only while the movement has the person's consent for this purpose.
NEEDS_CONSENT = {"phone": "phone", "cell": "location"}


class ConsentNeeded(Conflict):
    """This is kept only with your consent: give it first."""

    slug = "consent-needed"


class Known(NamedTuple):
    """What somebody has just told of themselves."""

    signer: bytes
    details: Details


async def remember(
    session: AsyncSession,
    ring: KeyRing,
    signer: bytes,
    *,
    email: str,
    given_name: str = "",
    family_name: str = "",
    locale: str = "",
) -> None:
    """Have a row for this person. What is empty tells nothing, and what is kept already stays as it is."""
    await remember_all(
        session, ring, [Known(signer, Details(email, given_name or None, family_name or None, locale or None))]
    )


async def remember_all(session: AsyncSession, ring: KeyRing, people: Sequence[Known]) -> None:
    """The same for many, who are locked, in the order of their keys, until the end of the transaction.

    Of those who are known already only what nobody has ever said is filled in. Who is being forgotten at the same time
    is waited for, and gets a new row.
    """
    told: dict[bytes, Details] = {}
    for signer, details in people:
        told[signer] = _filled(told[signer], details) if signer in told else details
    moment = now()
    rows = [
        {"signer": signer, "sealed": seal_details(ring, signer, told[signer]), **_all_at(moment)}
        for signer in sorted(told)
    ]
    if not rows:
        return
    statement = insert(Person).values(rows)
    # Locks those that are there, and changes nothing.
    locking = statement.on_conflict_do_update(
        index_elements=[Person.signer], set_={"sealed": Person.sealed}, where=false()
    )
    made = await session.scalars(locking.returning(Person.signer))
    await _fill(session, ring, {signer: told[signer] for signer in told.keys() - set(made)})


def _all_at(moment: datetime) -> dict[str, datetime]:
    return dict.fromkeys(("created_at", "updated_at", "looked_at"), moment)


async def _fill(session: AsyncSession, ring: KeyRing, told: dict[bytes, Details]) -> None:
    for signer, sealed in await queries.locked(session, told):
        try:
            kept = open_details(ring, signer, sealed)
        except SealBrokenError:
            # Of a key that is not in the ring: it stays as it is, and holds nobody else up.
            log.error("a person cannot be read")
            continue
        filled = _filled(kept, told[signer])
        if filled != kept:
            await _keep(session, ring, signer, sealed, filled)


def _filled(kept: Details, told: Details) -> Details:
    news = {name: value for name, value in asdict(told).items() if getattr(kept, name) is None}
    return replace(kept, **news)


async def _keep(session: AsyncSession, ring: KeyRing, signer: bytes, former: bytes, details: Details) -> None:
    sealed = reseal_details(ring, signer, former, details)
    await session.execute(update(Person).where(Person.signer == signer).values(sealed=sealed, updated_at=now()))


async def details_of(session: AsyncSession, ring: KeyRing, signer: bytes) -> Details | None:
    """What is kept of a person; None when nothing is."""
    sealed = await queries.sealed_of(session, [signer])
    return open_details(ring, signer, sealed[signer]) if sealed else None


async def change(session: AsyncSession, ring: KeyRing, signer: bytes, changes: dict[str, Any]) -> Details | None:
    """Change what a person says of themselves, None to take it away; ConsentNeeded."""
    rows = await queries.locked(session, [signer])
    if not rows:
        return None
    purposes = {purpose for name, purpose in NEEDS_CONSENT.items() if changes.get(name)}
    if purposes - await queries.purposes_given_to_the_movement(session, signer):
        raise ConsentNeeded
    former = rows[0][1]
    details = replace(open_details(ring, signer, former), **{name: value or "" for name, value in changes.items()})
    await _keep(session, ring, signer, former, details)
    return details


async def destroy(session: AsyncSession, ring: KeyRing, signer: bytes, purposes: set[str]) -> None:
    """Destroy what was kept for these purposes alone."""
    gone: dict[str, Any] = {name: None for name, purpose in NEEDS_CONSENT.items() if purpose in purposes}
    for _, sealed in await queries.locked(session, [signer]):
        details = open_details(ring, signer, sealed)
        await _keep(session, ring, signer, sealed, replace(details, **gone))
