"""Ingest: from what a webhook holds to signatures that are counted, and one result for each, in order.

Everything is read and prepared before anything is inserted: what must be refused as a whole is found before a signature
counts. While one webhook is committed, the next one is prepared.
"""

import json
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any
from uuid import UUID

from app.kit.crypto.sealing import KeyRing
from app.kit.problems import Invalid, Problem
from app.organizations.models import Organization
from app.partners.inbound.acceptance import Accepted, Refused, accept, first_id
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.items import Item
from app.partners.inbound.services import InboundServices
from app.people.pseudonyms import signature_id
from app.signatures.engine.bulk import BATCH_LIMIT
from app.signatures.engine.signings import Outcome
from app.signatures.service import CountryNotAllowed, PetitionNotOpen

_STATUS = {Outcome.COUNTED: "counted", Outcome.PENDING: "pending"}


async def ingest(
    services: InboundServices, organization: Organization, webhook: Webhook, items: Iterable[Item]
) -> bytes:
    """Take in what this webhook holds; a `ReceivedView`, in JSON.

    `items` is gone through once; what it raises is raised before anything has been counted. QueueFull, Unavailable.
    """
    results = _Results(services.ring, organization.id, first_id(webhook))
    accepted: list[Accepted] = []
    async with aclosing(accept(services, organization, webhook, items)) as decided:
        async for one in decided:
            if isinstance(one, Refused):
                results.refuse(one.number, one.reference, one.problem)
            else:
                accepted.append(one)
    await _insert(services, accepted, results)
    return results.written()


async def _insert(services: InboundServices, accepted: list[Accepted], results: "_Results") -> None:
    """Bring these in few large parts, and note what became of each. The list is empty afterwards."""
    accepted.reverse()
    while accepted:
        chunk = accepted[-BATCH_LIMIT:][::-1]
        del accepted[-BATCH_LIMIT:]
        outcomes = await services.signing.engine.bulk.submit([one.signing for one in chunk])
        services.fair_share.start_slice()
        for one, outcome in zip(chunk, outcomes, strict=True):
            problem = _problem_of(one, outcome)
            if problem is None:
                results.take(one.number, one.reference, outcome)
            else:
                results.refuse(one.number, one.reference, problem)
            if services.fair_share.is_used_up():
                await services.fair_share.give_way()


def _problem_of(one: Accepted, outcome: Outcome) -> Problem | None:
    """Why the statement did not insert it; None when it did, or had it already."""
    if outcome is Outcome.INVALID:
        return Invalid()
    if outcome is not Outcome.REFUSED:
        return None
    allowed = one.petition.allowed_countries
    elsewhere = allowed is not None and one.signing.tally_keys.country not in allowed
    return CountryNotAllowed() if elsewhere else PetitionNotOpen()


class _Results:
    """One result per item, written as JSON as soon as it is known."""

    def __init__(self, ring: KeyRing, organization_id: UUID, first_id: int) -> None:
        self._ring, self._organization_id, self._first_id = ring, organization_id, first_id
        self._written: dict[int, str] = {}
        self._counts = {"counted": 0, "pending": 0, "duplicate": 0, "refused": 0}

    def take(self, index: int, reference: str | None, outcome: Outcome) -> None:
        """What became of a signature."""
        status = _STATUS.get(outcome, "duplicate")
        told = f',"signature_id":"{self._told_id(index)}"' if status in {"counted", "pending"} else ""
        self._write(index, reference, status, told)

    def _told_id(self, index: int) -> str:
        return signature_id(self._ring, self._organization_id, UUID(int=self._first_id | index))

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
        results = ",".join(self._written[index] for index in range(len(self._written)))
        return f'{{"results":[{results}],{counts}}}'.encode()


def _written(problem: Problem) -> str:
    told: dict[str, Any] = {
        "type": f"urn:multitude:problem:{problem.slug}",
        "title": problem.title(),
        "status": problem.status,
    }
    more = {"detail": problem.detail, "errors": problem.errors}
    return json.dumps(told | {name: value for name, value in more.items() if value}, ensure_ascii=False)
