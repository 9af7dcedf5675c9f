"""Signing and withdrawing through this process's hot room, and what can stand in the way."""

from uuid import UUID

from app.kit.clock import now
from app.kit.problems import Conflict, Invalid, NotFound
from app.kit.sealing import SealBrokenError
from app.petitions.directory import Entry
from app.petitions.service import PetitionNotFound
from app.signatures.hot import HotRoom
from app.signatures.intake import Outcome, Signing, Withdrawal
from app.signatures.schemas import SigningBody
from app.signatures.sealing import read_receipt
from app.signatures.signing import prepare


class PetitionNotOpen(Conflict):
    """This petition does not take signatures at this time."""

    slug = "petition-not-open"


class CountryNotAllowed(Invalid):
    """This petition is not open to signers from this country."""

    slug = "country-not-allowed"


class UnknownReceipt(NotFound):
    """This is not a receipt of this petition."""

    slug = "unknown-receipt"


async def find(room: HotRoom, ref: str) -> Entry:
    """The public petition, at most a second old; PetitionNotFound."""
    entry = room.directory.kept(ref) or await room.directory.fresh(ref)
    if entry is None:
        raise PetitionNotFound
    return entry


async def sign(room: HotRoom, ref: str, body: SigningBody) -> tuple[str, Signing]:
    """Sign and wait for the commit: the petition's slug and the attempt.

    PetitionNotFound, PetitionNotOpen, CountryNotAllowed, QueueFull, Unavailable.
    """
    entry = room.directory.kept(ref)
    if entry is None or not entry.accepts(body.country):
        # Refusing on what a snapshot says could be wrong by its age: look again, now.
        entry = await room.directory.fresh(ref)
    _check(entry, body.country)
    assert entry is not None
    signing = prepare(room.ring, entry.id, body, now())
    outcome = await room.queue.add(signing)
    if outcome is Outcome.REFUSED or outcome is Outcome.WITHDRAWN:
        # The petition changed between our look and the insert, whose word is final.
        _check(await room.directory.fresh(ref), body.country)
        raise PetitionNotOpen
    return entry.slug, signing


def _check(entry: Entry | None, country: str) -> None:
    if entry is None:
        raise PetitionNotFound
    if not entry.accepting:
        raise PetitionNotOpen
    if not entry.accepts(country):
        raise CountryNotAllowed


async def withdraw(room: HotRoom, petition_id: UUID, receipt: str) -> None:
    """Withdraw what the receipt opens, if it opens anything; UnknownReceipt when it was not made here."""
    try:
        signer, id_ = read_receipt(room.ring, petition_id, receipt)
    except SealBrokenError:
        raise UnknownReceipt from None
    await room.queue.add(Withdrawal(petition_id, signer, id_))
