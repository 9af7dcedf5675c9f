"""Signing, confirming and withdrawing through this process's hot room, and what can stand in the way."""

from datetime import timedelta
from uuid import UUID

from app.kit.abuse.client_addresses import Address
from app.kit.clock import now
from app.kit.crypto.sealing import SealBrokenError
from app.kit.problems import Conflict, Invalid, NotFound
from app.people.consents import policy as asking
from app.petitions.directory import Entry
from app.petitions.service import PetitionNotFound
from app.signatures.engine.engine import SigningEngine
from app.signatures.engine.insert import Outcome, Signing
from app.signatures.engine.transitions import Confirmation, Withdrawal
from app.signatures.schemas import SigningBody
from app.signatures.signing.prepare import prepare
from app.signatures.signing.sealing import read_link, read_receipt

# How long the link in a mail can be followed.
LINK_LASTS = timedelta(days=30)


class PetitionNotOpen(Conflict):
    """This petition does not take signatures at this time."""

    slug = "petition-not-open"


class CountryNotAllowed(Invalid):
    """This petition is not open to signers from this country."""

    slug = "country-not-allowed"


class UnknownReceipt(NotFound):
    """This is not a receipt of this petition."""

    slug = "unknown-receipt"


class UnknownLink(NotFound):
    """This link is not one of ours, or too old."""

    slug = "unknown-link"


async def find(room: SigningEngine, ref: str) -> Entry:
    """The public petition, at most a second old; PetitionNotFound."""
    entry = room.directory.kept(ref) or await room.directory.fresh(ref)
    if entry is None:
        raise PetitionNotFound
    return entry


async def sign(
    room: SigningEngine, ref: str, body: SigningBody, address: Address | None = None
) -> tuple[Entry, Signing]:
    """Sign and wait for the commit: the petition and the attempt. `address` is the client's, if it is known.

    PetitionNotFound, PetitionNotOpen, CountryNotAllowed, ChallengeFailed, QueueFull, Unavailable; and what stands
    against consents (`people/consents/policy.py`).
    """
    entry = room.directory.kept(ref)
    if entry is None or not entry.accepts(body.country):
        # Refusing on what a snapshot says could be wrong by its age: look again, now.
        entry = await room.directory.fresh(ref)
    _check(entry, body.country)
    assert entry is not None
    if entry.challenge != "none":
        await room.challenges.verify(str(entry.id), body.altcha)
    if body.consents:
        await asking.admit(room.asking, body.consents)
    digest = await room.addresses.digest(address)
    held = await _over_limit(room, entry, digest) or None
    signing = prepare(room.ring, entry.id, body, now(), address_digest=digest, held=held)
    outcome = await room.queue.add(signing)
    if outcome is Outcome.REFUSED or outcome is Outcome.WITHDRAWN:
        # The petition changed between our look and the insert, whose word is final.
        _check(await room.directory.fresh(ref), body.country)
        raise PetitionNotOpen
    return entry, signing


async def _over_limit(room: SigningEngine, entry: Entry, digest: bytes | None) -> bool:
    """Whether too many have signed from there this hour."""
    if entry.address_limit is None or digest is None:
        return False
    return not await room.limiter.hit(f"{entry.address_limit} per hour", str(entry.id), digest.hex())


def _check(entry: Entry | None, country: str) -> None:
    if entry is None:
        raise PetitionNotFound
    if not entry.accepting:
        raise PetitionNotOpen
    if not entry.accepts(country):
        raise CountryNotAllowed


async def confirm(room: SigningEngine, token: str) -> UUID:
    """Confirm the signature the link was sent for, if it still waits for that; the petition. UnknownLink."""
    try:
        link = read_link(room.ring, token)
    except SealBrokenError:
        raise UnknownLink from None
    if now() > link.written_at + LINK_LASTS:
        raise UnknownLink
    await room.queue.add(Confirmation(link.petition_id, link.signer, link.id))
    return link.petition_id


async def withdraw(room: SigningEngine, petition_id: UUID, receipt: str) -> None:
    """Withdraw what the receipt opens, if it opens anything; UnknownReceipt when it was not made here."""
    try:
        signer, id_ = read_receipt(room.ring, petition_id, receipt)
    except SealBrokenError:
        raise UnknownReceipt from None
    await room.queue.add(Withdrawal(petition_id, signer, id_))
