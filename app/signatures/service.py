"""Signing, confirming and withdrawing through the signing engine, and the reasons to refuse."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from app.kit.abuse.client_addresses import Address
from app.kit.clock import now, this_second
from app.kit.crypto.sealing import SealBrokenError
from app.kit.problems import Conflict, Invalid, NotFound, Problem
from app.people.consents import policy
from app.petitions import queries as petitions
from app.petitions.directory import Entry
from app.petitions.service import PetitionNotFound
from app.signatures.engine.signings import Outcome, Signing
from app.signatures.engine.transitions import Confirmation, Withdrawal
from app.signatures.schemas import SigningBody
from app.signatures.services import SigningServices
from app.signatures.signing.prepare import prepare
from app.signatures.signing.sealing import Link, read_link, read_receipt

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


class SignatureGone(Problem):
    """What this link was sent for is not there any more: it was withdrawn, or others took its place. Sign again."""

    status = 410
    slug = "signature-gone"


async def find(services: SigningServices, ref: str) -> Entry:
    """The public petition, at most a second old; PetitionNotFound."""
    entry = services.directory.peek(ref) or await services.directory.refresh(ref)
    if entry is None:
        raise PetitionNotFound
    return entry


async def id_of(services: SigningServices, ref: str) -> UUID | None:
    """The id of a petition, whether or not the public may see it."""
    async with services.database.transaction() as session:
        return await petitions.any_id(session, ref)


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
    client, clear_text = digests.client if digests else None, entry.clear_text
    signing = prepare(
        services.ring, entry.id, body, this_second(), address_digest=client, on_hold=on_hold, clear_text=clear_text
    )
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


def follow(services: SigningServices, token: str) -> Link:
    """What the link in a mail was sent for; UnknownLink."""
    try:
        link = read_link(services.ring, token)
    except SealBrokenError:
        raise UnknownLink from None
    if now() > link.written_at + LINK_LASTS:
        raise UnknownLink
    return link


async def confirm(services: SigningServices, token: str, consents: Iterable[int] = ()) -> Link:
    """Confirm the attempt that the link was sent for, with those of its consents; UnknownLink, SignatureGone.

    Doing it again changes nothing: neither what was said, nor the consents that were accepted.
    """
    link = follow(services, token)
    accepted = sum(1 << number for number in set(consents))
    outcome = await services.engine.submit(Confirmation(link.petition_id, link.signer, link.id, accepted))
    if outcome is Outcome.NOTHING:
        raise SignatureGone
    return link


async def withdraw(services: SigningServices, petition_id: UUID, receipt: str) -> None:
    """Withdraw the attempt that the receipt is of, if any; UnknownReceipt when we have not written it.

    It works whatever became of the petition: one can always take back.
    """
    try:
        read = read_receipt(services.ring, petition_id, receipt)
    except SealBrokenError:
        raise UnknownReceipt from None
    await services.engine.submit(Withdrawal(petition_id, read.signer, read.id, read.proven))


async def withdraw_by_link(services: SigningServices, token: str) -> None:
    """Withdraw the attempt that the link in a mail was sent for; UnknownLink."""
    link = follow(services, token)
    await services.engine.submit(Withdrawal(link.petition_id, link.signer, link.id, proven=True))
