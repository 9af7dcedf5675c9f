"""Bringing: from what a webhook holds to signatures that are counted, and one result for each, in order.

Everything is read and prepared before anything is brought to the hot room: what must be refused as a whole is found
before a signature counts. While one webhook is committed, the next one is prepared.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from app.kit.problems import Forbidden, Invalid, Problem
from app.organizations.models import Organization
from app.partners.inbound.fair_share import FEW
from app.partners.inbound.idempotency import Received
from app.partners.inbound.items import NoSignature
from app.partners.inbound.services import InboundServices
from app.partners.partnerships.terms import Fed, Terms, fed_petitions, terms_of
from app.partners.schemas import PartnerSigning
from app.people.consents.policy import AskedOrganization, check, read_asked
from app.people.schemas import Consent
from app.signatures.engine.bulk import CHUNK
from app.signatures.engine.insert import Outcome, Signing
from app.signatures.service import CountryNotAllowed, PetitionNotOpen
from app.signatures.signing.prepare import prepare

Item: TypeAlias = PartnerSigning | Problem

# By how much a partner's clock may be ahead of ours.
CLOCKS_DIFFER = timedelta(minutes=5)
# Items whose petitions are asked for together.
_PART = 32
# The last bits of a webhook's id make room for the numbers of its items.
_NUMBERS = 0x3FFF
_STATUS = {Outcome.COUNTED: "counted", Outcome.PENDING: "pending"}
_STANDS_AGAINST = {Outcome.REFUSED, Outcome.INVALID}


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


class _Prepared(NamedTuple):
    number: int
    reference: str | None
    fed: Fed
    signing: Signing


async def bring(desk: InboundServices, organization: Organization, received: Received, items: Iterable[Item]) -> bytes:
    """Bring what this webhook holds; a `ReceivedView`, in JSON.

    `items` is gone through once; what it raises is raised before anything has been counted. QueueFull, Unavailable.
    """
    bringing = _Bringing(desk, organization, received)
    await bringing.prepare(iter(items))
    await bringing.count()
    return bringing.results.written()


class _Results:
    """One result per item, written as JSON as soon as it is known."""

    def __init__(self, first_id: int) -> None:
        # The ids of a webhook's signatures differ in their last 14 bits alone: the rest is spelt once.
        self._head, self._tail = str(UUID(int=first_id))[:-4], first_id & 0xFFFF
        self._written: list[str] = []
        self._counts = {"counted": 0, "pending": 0, "duplicate": 0, "refused": 0}

    def expect(self) -> int:
        """The index of the next item."""
        self._written.append("")
        return len(self._written) - 1

    def take(self, index: int, reference: str | None, outcome: Outcome) -> None:
        """What became of a signature that was brought."""
        status = _STATUS.get(outcome, "duplicate")
        told = f',"signature_id":"{self._head}{self._tail | index:04x}"' if status in {"counted", "pending"} else ""
        self._write(index, reference, status, told)

    def refuse(self, index: int, reference: str | None, problem: Problem) -> None:
        """Why an item is not taken."""
        self._write(index, reference, "refused", f',"problem":{_written(problem)}')

    def _write(self, index: int, reference: str | None, status: str, more: str) -> None:
        # The pattern of a reference leaves nothing to be escaped.
        named = f'"id":"{reference}",' if reference else ""
        self._written[index] = f'{{"index":{index},{named}"status":"{status}"{more}}}'
        self._counts[status] += 1

    def written(self) -> bytes:
        """All of it, UTF-8."""
        counts = ",".join(f'"{status}":{count}' for status, count in self._counts.items())
        return f'{{"results":[{",".join(self._written)}],{counts}}}'.encode()


def _written(problem: Problem) -> str:
    told: dict[str, Any] = {
        "type": f"urn:multitude:problem:{problem.slug}",
        "title": problem.title(),
        "status": problem.status,
    }
    more = {"detail": problem.detail, "errors": problem.errors}
    return json.dumps(told | {name: value for name, value in more.items() if value}, ensure_ascii=False)


class _Bringing:
    """One webhook on its way."""

    def __init__(self, desk: InboundServices, organization: Organization, received: Received) -> None:
        self._desk = desk
        self._organization = organization
        self._received = received
        self._asked: Mapping[str, AskedOrganization] = {}
        # By the reference they were asked for; None is not covered.
        self._fed: dict[str, Fed | None] = {}
        self._prepared: list[_Prepared] = []
        self._first_id = received.id.int & ~_NUMBERS
        self.results = _Results(self._first_id)

    async def prepare(self, items: Iterator[Item]) -> None:
        """Read every item, and prepare or refuse it."""
        courtesy, part = self._desk.courtesy, list[Item]()
        await self._read_asked()
        async with AsyncExitStack() as turn:
            for count, item in enumerate(items, 1):
                if count == FEW:
                    await turn.enter_async_context(courtesy.preparing())
                part.append(item)
                # One item may be long: each is read by itself.
                if courtesy.is_due():
                    await courtesy.rest()
                if len(part) == _PART:
                    await self._take_all(part)
                    part.clear()
            await self._take_all(part)

    async def _take_all(self, part: Sequence[Item]) -> None:
        await self._learn({item.petition for item in part if isinstance(item, PartnerSigning)})
        for item in part:
            self._take(item)
            if self._desk.courtesy.is_due():
                await self._desk.courtesy.rest()

    async def _read_asked(self) -> None:
        """Ask once which consents may be brought, and which texts they may be about."""
        async with self._desk.database.transaction() as session:
            terms = await terms_of(session, self._organization.id)
            slugs = {self._organization.slug}.union(*(one.consents for one in terms))
            self._asked = await read_asked(session, slugs)

    async def _learn(self, refs: set[str]) -> None:
        unknown = refs - self._fed.keys()
        if unknown:
            async with self._desk.database.transaction() as session:
                found = await fed_petitions(session, self._organization.id, unknown)
            self._fed |= {ref: found.get(ref) for ref in unknown}

    def _take(self, item: Item) -> None:
        index = self.results.expect()
        if isinstance(item, Problem):
            reference = item.reference if isinstance(item, NoSignature) else None
            self.results.refuse(index, reference, item)
            return
        try:
            fed = self._fed[item.petition]
            if fed is None:
                raise PetitionNotCovered
            self._prepared.append(_Prepared(index, item.id, fed, self._signing(index, fed, item)))
        except Problem as problem:
            self.results.refuse(index, item.id, problem)

    def _signing(self, index: int, fed: Fed, item: PartnerSigning) -> Signing:
        """The item as the hot room takes it; what stands against it is raised."""
        self._check_consents(fed.terms, item.consents)
        item.country = item.country or fed.terms.default_country
        if item.country is None:
            raise Invalid(errors=[{"at": "country", "message": "Field required"}])
        return prepare(
            self._desk.ring,
            fed.id,
            item,
            self._signed_at(fed, item.signed_at),
            partner_id=self._organization.id,
            id_=UUID(int=self._first_id | index),
            reference=item.id or "",
        )

    def _check_consents(self, terms: Terms, consents: Sequence[Consent]) -> None:
        """ConsentNotInTerms, ConsentMissing, and what stands against entering them (`people/consents/policy.py`)."""
        if not (consents or terms.consents):
            return
        said = {consent.organization: consent.given for consent in consents}
        if not said.keys() <= {self._organization.slug, *terms.consents}:
            raise ConsentNotInTerms
        for slug, answer in terms.consents.items():
            if (answer == "given" and not said.get(slug)) or (answer == "asked" and slug not in said):
                raise ConsentMissing
        check(self._asked, consents)

    def _signed_at(self, fed: Fed, signed_at: datetime | None) -> datetime:
        """When it was signed, not after it was received; SignedAtOutOfBounds."""
        received_at = self._received.received_at
        if signed_at is None:
            return received_at
        if signed_at > received_at + CLOCKS_DIFFER or (fed.opens_at is not None and signed_at < fed.opens_at):
            raise SignedAtOutOfBounds
        return min(signed_at, received_at)

    async def count(self) -> None:
        """Bring what was prepared, in few large batches, and take the outcomes down."""
        self._prepared.reverse()
        while self._prepared:
            chunk = self._prepared[-CHUNK:][::-1]
            del self._prepared[-CHUNK:]
            outcomes = await self._desk.room.bulk.bring([one.signing for one in chunk])
            for one, outcome in zip(chunk, outcomes, strict=True):
                self._settle(one, outcome)
                if self._desk.courtesy.is_due():
                    await self._desk.courtesy.rest()

    def _settle(self, one: _Prepared, outcome: Outcome) -> None:
        if outcome not in _STANDS_AGAINST:
            self.results.take(one.number, one.reference, outcome)
            return
        if outcome is Outcome.INVALID:
            self.results.refuse(one.number, one.reference, Invalid())
            return
        allowed = one.fed.allowed_countries
        elsewhere = allowed is not None and one.signing.facets.country not in allowed
        self.results.refuse(one.number, one.reference, CountryNotAllowed() if elsewhere else PetitionNotOpen())
