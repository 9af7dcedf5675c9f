"""Signing, confirming and withdrawing through the signing engine, and the reasons to refuse."""

from datetime import timedelta
from uuid import UUID

from app.kit.abuse.client_addresses import Address
from app.kit.clock import now
from app.kit.crypto.sealing import SealBrokenError
from app.kit.problems import Conflict, Invalid, NotFound
from app.people.consents import policy
from app.petitions.directory import Entry
from app.petitions.service import PetitionNotFound
from app.signatures.engine.insert import Outcome, Signing
from app.signatures.engine.transitions import Confirmation, Withdrawal
from app.signatures.schemas import SigningBody
from app.signatures.services import SigningServices
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


async def find(services: SigningServices, ref: str) -> Entry:
    """The public petition, at most a second old; PetitionNotFound."""
    entry = services.directory.peek(ref) or await services.directory.refresh(ref)
    if entry is None:
        raise PetitionNotFound
    return entry


async def sign(
    services: SigningServices, ref: str, body: SigningBody, address: Address | None = None
) -> tuple[Entry, Signing]:
    """Sign and wait for the commit: the petition and the attempt. `address` is the client's, if it is known.

    PetitionNotFound, PetitionNotOpen, CountryNotAllowed, ChallengeFailed, QueueFull, Unavailable; and the reasons to
    refuse consents (`people/consents/policy.py`).
    """
    entry = services.directory.peek(ref)
    if entry is None or not entry.accepts(body.country):
        # The snapshot may be a second old: look again before refusing.
        entry = await services.directory.refresh(ref)
    _check(entry, body.country)
    assert entry is not None
    if entry.challenge != "none":
        await services.challenges.verify(str(entry.id), body.altcha)
    if body.consents:
        await policy.validate(services.consent_policies, body.consents)
    digests = await services.protection.digester.digests(address)
    on_hold = await services.address_limits.hold(entry, digests)
    client = digests.client if digests else None
    signing = prepare(services.ring, entry.id, body, now(), address_digest=client, on_hold=on_hold)
    outcome = await services.engine.submit(signing)
    if outcome is Outcome.REFUSED or outcome is Outcome.WITHDRAWN:
        # The petition has changed since we looked; the insert decides.
        _check(await services.directory.refresh(ref), body.country)
        raise PetitionNotOpen
    return entry, signing


def _check(entry: Entry | None, country: str) -> None:
    if entry is None:
        raise PetitionNotFound
    if not entry.accepting:
        raise PetitionNotOpen
    if not entry.accepts(country):
        raise CountryNotAllowed


async def confirm(services: SigningServices, token: str) -> UUID:
    """Confirm the signature that the link was sent for, if it is still pending; returns the petition. UnknownLink."""
    try:
        link = read_link(services.ring, token)
    except SealBrokenError:
        raise UnknownLink from None
    if now() > link.written_at + LINK_LASTS:
        raise UnknownLink
    await services.engine.submit(Confirmation(link.petition_id, link.signer, link.id))
    return link.petition_id


async def withdraw(services: SigningServices, petition_id: UUID, receipt: str) -> None:
    """Withdraw the signature that the receipt opens, if any; UnknownReceipt when we have not written it."""
    try:
        signer, id_ = read_receipt(services.ring, petition_id, receipt)
    except SealBrokenError:
        raise UnknownReceipt from None
    await services.engine.submit(Withdrawal(petition_id, signer, id_))
