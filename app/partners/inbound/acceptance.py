"""Acceptance: each item is held against the terms of the partnership, and prepared as a signature or refused.

Which petitions a partner may feed is asked for many items together; all else is decided item by item.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app.kit.problems import Forbidden, Invalid, Problem
from app.organizations.models import Organization
from app.partners.inbound.fair_share import FEW
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.items import Item, NoSignature
from app.partners.inbound.services import InboundServices
from app.partners.partnerships.terms import CoveredPetition, Terms, covered_petitions, terms_of
from app.partners.schemas import PartnerSigning
from app.people.consents.policy import ConsentPolicy, check, read_policies
from app.people.schemas import Consent
from app.signatures.engine.signings import Signing
from app.signatures.signing.prepare import prepare

# By how much a partner's clock may be ahead of ours.
CLOCKS_DIFFER = timedelta(minutes=5)
# Items whose petitions are asked for together.
_PART = 32
# The last bits of a webhook's id make room for the numbers of its items.
_NUMBERS = 0x3FFF


class PetitionNotCovered(Forbidden):
    """No partnership of yours covers this petition, or there is none of this name."""

    slug = "petition-not-covered"


class SignedAtOutOfBounds(Invalid):
    """The signature was given in the future, or before the petition opened."""

    slug = "signed-at-out-of-bounds"


class ConsentNotInTerms(Invalid):
    """A consent names an organization that your terms do not."""

    slug = "consent-not-in-terms"


class ConsentMissing(Invalid):
    """Your terms ask for a consent that the signature does not bring."""

    slug = "consent-missing"


class Accepted(NamedTuple):
    """An item that is a signature, ready to be inserted. `number` is its place, from 0."""

    number: int
    reference: str | None
    petition: CoveredPetition
    signing: Signing


class Refused(NamedTuple):
    """An item that is not taken, and why."""

    number: int
    reference: str | None
    problem: Problem


def first_id(webhook: Webhook) -> int:
    """The id of the first signature of a webhook; those of the others are this and the number of their item."""
    return webhook.id.int & ~_NUMBERS


async def accept(
    services: InboundServices, organization: Organization, webhook: Webhook, items: Iterable[Item]
) -> AsyncGenerator[Accepted | Refused, None]:
    """Every item in its order, accepted or refused. What `items` raises, which is about all of them, is raised."""
    fair_share, acceptance = services.fair_share, _Acceptance(services, organization, webhook)
    await acceptance.read_policies()
    # Waiting was no work.
    fair_share.start_slice()
    part: list[Item] = []
    async with AsyncExitStack() as turn:
        for count, item in enumerate(items, 1):
            if count == FEW:
                await turn.enter_async_context(fair_share.preparing())
            part.append(item)
            # One item may be long: each is read by itself.
            if fair_share.is_used_up():
                await fair_share.give_way()
            if len(part) == _PART:
                async for decided in acceptance.decide(part):
                    yield decided
                part.clear()
        async for decided in acceptance.decide(part):
            yield decided


class _Acceptance:
    """That of one webhook."""

    def __init__(self, services: InboundServices, organization: Organization, webhook: Webhook) -> None:
        self._services = services
        self._organization = organization
        self._received_at = webhook.received_at
        self._first_id = first_id(webhook)
        self._count = 0
        self._asked: Mapping[str, ConsentPolicy] = {}
        # By the reference they were asked for; None is not covered.
        self._petitions: dict[str, CoveredPetition | None] = {}

    async def read_policies(self) -> None:
        """Ask once which consents may be brought, and which texts they may be about."""
        async with self._services.database.transaction() as session:
            terms = await terms_of(session, self._organization.id)
            slugs = {self._organization.slug}.union(*(one.consents for one in terms))
            self._asked = await read_policies(session, slugs)

    async def decide(self, part: Sequence[Item]) -> AsyncGenerator[Accepted | Refused, None]:
        """Accept or refuse the items that follow."""
        await self._read_petitions({item.petition for item in part if isinstance(item, PartnerSigning)})
        for item in part:
            yield self._decide(self._count, item)
            self._count += 1
            if self._services.fair_share.is_used_up():
                await self._services.fair_share.give_way()

    async def _read_petitions(self, refs: set[str]) -> None:
        unknown = refs - self._petitions.keys()
        if unknown:
            async with self._services.database.transaction() as session:
                found = await covered_petitions(session, self._organization.id, unknown)
            self._petitions |= {ref: found.get(ref) for ref in unknown}

    def _decide(self, index: int, item: Item) -> Accepted | Refused:
        if isinstance(item, Problem):
            return Refused(index, item.reference if isinstance(item, NoSignature) else None, item)
        try:
            petition = self._petitions[item.petition]
            if petition is None:
                raise PetitionNotCovered
            return Accepted(index, item.id, petition, self._signing(index, petition, item))
        except Problem as problem:
            return Refused(index, item.id, problem)

    def _signing(self, index: int, petition: CoveredPetition, item: PartnerSigning) -> Signing:
        """The item, ready to be inserted; raises the reasons not to accept it."""
        self._check_consents(petition.terms, item.consents)
        item.country = item.country or petition.terms.default_country
        if item.country is None:
            raise Invalid(errors=[{"at": "country", "message": "Field required"}])
        return prepare(
            self._services.ring,
            petition.id,
            item,
            self._signed_at(petition, item.signed_at),
            partner_id=self._organization.id,
            id_=UUID(int=self._first_id | index),
            reference=item.id or "",
            clear_text=petition.clear_text,
            # Staff gave the partner its name, so that may stand in clear.
            other_source=self._organization.slug,
        )

    def _check_consents(self, terms: Terms, consents: Sequence[Consent]) -> None:
        """ConsentNotInTerms, ConsentMissing, and the reasons not to enter them (`people/consents/policy.py`)."""
        if not (consents or terms.consents):
            return
        said = {consent.organization: consent.given for consent in consents}
        if not said.keys() <= {self._organization.slug, *terms.consents}:
            raise ConsentNotInTerms
        for slug, answer in terms.consents.items():
            if (answer == "given" and not said.get(slug)) or (answer == "asked" and slug not in said):
                raise ConsentMissing
        check(self._asked, consents)

    def _signed_at(self, petition: CoveredPetition, signed_at: datetime | None) -> datetime:
        """When it was signed, not after it was received; SignedAtOutOfBounds."""
        if signed_at is None:
            return self._received_at
        too_early = petition.opens_at is not None and signed_at < petition.opens_at
        if too_early or signed_at > self._received_at + CLOCKS_DIFFER:
            raise SignedAtOutOfBounds
        return min(signed_at, self._received_at)
