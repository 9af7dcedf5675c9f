"""A person's details: storing, filling in, changing and deleting them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import false, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import this_second
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import log
from app.kit.problems import Conflict
from app.people import queries
from app.people.models import Person
from app.people.sealing import Details, open_details, reseal_details, seal_details

# Fields that are kept only while the movement has the person's consent for this purpose.
NEEDS_CONSENT = {"phone": "phone", "cell": "location"}


class ConsentNeeded(Conflict):
    """This is kept only with your consent: give it first."""

    slug = "consent-needed"


class PersonDetails(NamedTuple):
    """Details that a person has just given."""

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
    """Make a row for this person, or fill in what it lacks. An empty text says nothing; what is kept stays as it is."""
    await remember_all(
        session, ring, [PersonDetails(signer, Details(email, given_name or None, family_name or None, locale or None))]
    )


async def remember_all(session: AsyncSession, ring: KeyRing, people: Sequence[PersonDetails]) -> None:
    """The same for many people. Their rows stay locked, in the order of their keys, until the transaction ends.

    A row that exists gets only the fields that nobody has ever filled in. If a row is being deleted at the same time,
    this waits for that, and makes a new row.
    """
    given: dict[bytes, Details] = {}
    for signer, details in people:
        given[signer] = _merged(given[signer], details) if signer in given else details
    moment = this_second()
    rows = [
        {"signer": signer, "sealed": seal_details(ring, signer, given[signer]), **_all_at(moment)}
        for signer in sorted(given)
    ]
    if not rows:
        return
    statement = insert(Person).values(rows)
    # The update changes nothing, but it locks the rows that exist.
    locking = statement.on_conflict_do_update(
        index_elements=[Person.signer], set_={"sealed": Person.sealed}, where=false()
    )
    made = await session.scalars(locking.returning(Person.signer))
    await _merge(session, ring, {signer: given[signer] for signer in given.keys() - set(made)})


def _all_at(moment: datetime) -> dict[str, datetime]:
    return dict.fromkeys(("created_at", "updated_at", "looked_at"), moment)


async def _merge(session: AsyncSession, ring: KeyRing, given: dict[bytes, Details]) -> None:
    for signer, sealed in await queries.locked(session, given):
        try:
            kept = open_details(ring, signer, sealed)
        except SealBrokenError:
            # Its key is not in the ring: the row stays as it is, and the others are filled in.
            log.error("a person cannot be read")
            continue
        merged = _merged(kept, given[signer])
        if merged != kept:
            await _store(session, ring, signer, sealed, merged)


def _merged(kept: Details, given: Details) -> Details:
    """What is kept, with the fields that were never filled in taken from what was given.

    Names that the person has said themself replace those that anybody may have typed.
    """
    if given.proven and not kept.proven:
        said: dict[str, Any] = {name: getattr(given, name) or "" for name in ("given_name", "family_name")}
        kept = replace(kept, **said, locale=given.locale or kept.locale, proven=True)
    missing = {name: value for name, value in asdict(given).items() if getattr(kept, name) is None}
    return replace(kept, **missing)


async def _store(session: AsyncSession, ring: KeyRing, signer: bytes, former: bytes, details: Details) -> None:
    sealed = reseal_details(ring, signer, former, details)
    await session.execute(update(Person).where(Person.signer == signer).values(sealed=sealed, updated_at=this_second()))


async def details_of(session: AsyncSession, ring: KeyRing, signer: bytes) -> Details | None:
    """A person's details; None when there is no row."""
    sealed = await queries.sealed_of(session, [signer])
    return open_details(ring, signer, sealed[signer]) if sealed else None


async def change(session: AsyncSession, ring: KeyRing, signer: bytes, changes: dict[str, Any]) -> Details | None:
    """Change a person's own details, None to take one away; ConsentNeeded. None when there is no row."""
    rows = await queries.locked(session, [signer])
    if not rows:
        return None
    purposes = {purpose for name, purpose in NEEDS_CONSENT.items() if changes.get(name)}
    if purposes - await queries.purposes_given_to_the_movement(session, signer):
        raise ConsentNeeded
    former = rows[0][1]
    details = open_details(ring, signer, former)
    said = {name: value or "" for name, value in changes.items()}
    # Whoever is signed in has seen both names, and says by changing one that they hold.
    is_named = not said.keys().isdisjoint({"given_name", "family_name"})
    details = replace(details, **said, proven=details.proven or is_named, on_own_page=details.on_own_page or is_named)
    await _store(session, ring, signer, former, details)
    return details


async def delete_kept_for(session: AsyncSession, ring: KeyRing, signer: bytes, purposes: set[str]) -> None:
    """Delete the details that were kept for these purposes alone."""
    gone: dict[str, Any] = {name: None for name, purpose in NEEDS_CONSENT.items() if purpose in purposes}
    for _, sealed in await queries.locked(session, [signer]):
        details = open_details(ring, signer, sealed)
        await _store(session, ring, signer, sealed, replace(details, **gone))
