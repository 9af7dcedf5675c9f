"""Spreading: outbox messages become webhook messages, one for every endpoint that wants them.

What is taken out goes in the transaction in which the webhook messages are written: each is told once to each endpoint,
and what commits late is found late, whatever its id. Messages are made in the order in which they were announced.

The movement hears everything it asks for. A partner hears of petitions that its partnership covers, of signers of
campaigns whose terms let it receive them, of withdrawals if it brought the signature or may have received it, and of
every erasure that is addressed to it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.announcing import OutboxMessage
from app.kit.clock import now
from app.kit.ids import uuid7
from app.partners.models import WebhookMessage
from app.partners.outbound import feeding
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.feeding import Numbered
from app.people.consents import CONSENT_GIVEN
from app.people.leaving import PERSON_ERASED

BATCH = 5000
COUNTED = "signature.counted"
# Signatures in a message.
MOST_TOLD = 500

# Endpoints are held: one that is being deleted at this moment is waited for, and told nothing.
_TARGETS = text("""
    SELECT m.id, e.id AS endpoint_id
    FROM outbox_messages m
    JOIN webhook_endpoints e ON e.state <> 'disabled' AND m.type = ANY (e.types)
        AND (m.organization_id IS NULL OR m.organization_id = e.organization_id)
    JOIN organizations o ON o.id = e.organization_id
    LEFT JOIN petitions p ON p.id = CAST(m.content ->> 'petition_id' AS uuid)
    WHERE m.id = ANY (:ids) AND (
        o.kind = 'movement'
        OR m.type = 'person.erased' AND m.organization_id IS NOT NULL
        OR m.type LIKE 'petition.%' AND EXISTS (
            SELECT 1 FROM partnerships r WHERE r.organization_id = o.id AND r.campaign_id = p.campaign_id
            AND r.state = 'active' AND (r.petition_ids IS NULL OR p.id = ANY (r.petition_ids))
        )
        OR m.type = 'signature.withdrawn' AND m.organization_id IS NOT NULL AND (
            CAST(m.content ->> 'brought' AS bool) OR EXISTS (
                SELECT 1 FROM partnerships r WHERE r.organization_id = o.id AND r.campaign_id = p.campaign_id
                AND r.state IN ('active', 'ended') AND r.receives_signers
            )
        )
    )
    ORDER BY m.id, e.id FOR KEY SHARE OF e
""")
_COUNTED_TARGETS = text(f"""
    SELECT e.organization_id, e.id FROM webhook_endpoints e
    WHERE e.organization_id = ANY (:organization_ids) AND e.state <> 'disabled' AND '{COUNTED}' = ANY (e.types)
    ORDER BY e.id FOR KEY SHARE
""")
_TAKEN = text("DELETE FROM outbox_messages WHERE id = ANY (:ids)")


class _Said(NamedTuple):
    """An outbox message."""

    id: UUID
    type: str
    organization_id: UUID | None
    content: dict[str, Any]


class _Told(NamedTuple):
    """What an endpoint is told, in the place of an outbox message."""

    place: UUID
    endpoint_id: UUID
    type: str
    content: dict[str, Any]


async def spread(session: AsyncSession) -> Sequence[UUID]:
    """Take up to `BATCH` outbox messages out and write webhook messages; the ids of what was taken out."""
    await feeding.alone(session)
    columns = (OutboxMessage.id, OutboxMessage.type, OutboxMessage.organization_id, OutboxMessage.content)
    rows = await session.execute(select(*columns).order_by(OutboxMessage.id).limit(BATCH))
    said = [_Said(*row) for row in rows]
    places = {UUID(one.content["consent_id"]): one.id for one in said if one.type == CONSENT_GIVEN}
    numbered, held = await feeding.number(session, list(places)) if places else ([], set())
    told = await _counted(session, places, numbered)
    told += await _announced(session, _merged(one for one in said if one.type != CONSENT_GIVEN))
    await _write(session, sorted(told, key=attrgetter("place")))
    left = {places[consent_id] for consent_id in held}
    taken = [one.id for one in said if one.id not in left]
    await session.execute(_TAKEN, {"ids": taken})
    return taken


async def _counted(session: AsyncSession, places: Mapping[UUID, UUID], numbered: Iterable[Numbered]) -> list[_Told]:
    """Consents by spans of numbers, each in the place of its last; for whom there is nothing in it there is none."""
    by_organization: dict[UUID, list[Numbered]] = defaultdict(list)
    for one in numbered:
        by_organization[one.organization_id].append(one)
    endpoints = await _endpoints_for_counted(session, by_organization)
    wanted = {id_: by_organization[id_] for id_ in endpoints}
    received = await feeding.received(session, [one.number for part in wanted.values() for one in part])
    return [
        _Told(places[part[-1].consent_id], endpoint_id, COUNTED, {"from": part[0].number, "to": part[-1].number})
        for organization_id, all_ in wanted.items()
        for part in _parts(all_)
        if any(one.number in received for one in part)
        for endpoint_id in endpoints[organization_id]
    ]


async def _endpoints_for_counted(session: AsyncSession, organization_ids: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    endpoints: dict[UUID, list[UUID]] = defaultdict(list)
    if ids := list(organization_ids):
        for organization_id, endpoint_id in await session.execute(_COUNTED_TARGETS, {"organization_ids": ids}):
            endpoints[organization_id].append(endpoint_id)
    return endpoints


def _parts(numbered: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    for start in range(0, len(numbered), MOST_TOLD):
        yield numbered[start : start + MOST_TOLD]


def _merged(said: Iterable[_Said]) -> dict[UUID, _Said]:
    """The messages by their ids. Of an erasure that two rooms announce to one organization the last, saying both."""
    last: dict[object, _Said] = {}
    for one in said:
        if one.type == PERSON_ERASED:
            key = (one.organization_id, one.content["person_id"])
            last[key] = _with_signatures_of(last.get(key), one)
        else:
            last[one.id] = one
    return {one.id: one for one in last.values()}


def _with_signatures_of(earlier: _Said | None, one: _Said) -> _Said:
    ids = [*(earlier.content["signature_ids"] if earlier else []), *one.content["signature_ids"]]
    return one._replace(content=one.content | {"signature_ids": list(dict.fromkeys(ids))})


async def _announced(session: AsyncSession, said: Mapping[UUID, _Said]) -> list[_Told]:
    if not said:
        return []
    targets = await session.execute(_TARGETS, {"ids": list(said)})
    return [_Told(id_, endpoint_id, said[id_].type, said[id_].content) for id_, endpoint_id in targets]


async def _write(session: AsyncSession, told: Iterable[_Told]) -> None:
    moment = now()
    times = {"created_at": moment, "due_at": moment, "retried_until": moment + LIFETIME}
    rows = [
        {"id": uuid7(), "endpoint_id": one.endpoint_id, "type": one.type, "content": one.content, **times}
        for one in told
    ]
    if rows:
        await session.execute(insert(WebhookMessage), rows)
