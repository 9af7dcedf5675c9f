"""Spreading: outbox messages become webhook messages, one for every endpoint that wants them.

What is taken out goes in the transaction in which the webhook messages are written: each is told once to each endpoint,
and what commits late is found late, whatever its number. Messages are made in the order in which they were announced:
one transaction makes them at a time, and the time by which they are ordered is the database's.

The movement hears everything it asks for. A partner hears of petitions that its partnership covers, of signers of these
petitions if its terms let it receive them, of withdrawals if it brought the signature or may have received it, and of
every erasure that is addressed to it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.ids import uuid7
from app.kit.database.outbox import OutboxMessage
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.feed import feed as feeding
from app.partners.outbound.feed.feed import Numbered
from app.partners.outbound.message_types.contents import Said, understood
from app.partners.outbound.message_types.types import ORDERED
from app.partners.partnerships.terms import has_partnership
from app.people.consents.service import CONSENT_GIVEN
from app.people.personal_data.data_rights import PERSON_ERASED

# Few: what a transaction holds, an erasure waits for.
BATCH = 500
COUNTED = "signature.counted"
# Signatures in a message.
MOST_TOLD = 500

# Endpoints are held: one that is being deleted at this moment is waited for, and told nothing.
_TARGETS = text(f"""
    SELECT m.number, e.id AS endpoint_id
    FROM unnest(
        CAST(:numbers AS bigint[]), CAST(:types AS text[]), CAST(:organization_ids AS uuid[]),
        CAST(:petition_ids AS uuid[]), CAST(:brought AS boolean[])
    ) AS m (number, type, organization_id, petition_id, brought)
    JOIN webhook_endpoints e ON e.state <> 'disabled' AND m.type = ANY (e.types)
        AND (m.organization_id IS NULL OR m.organization_id = e.organization_id)
    JOIN organizations o ON o.id = e.organization_id
    LEFT JOIN petitions p ON p.id = m.petition_id
    WHERE o.kind = 'movement'
        OR m.type = 'person.erased'
        OR m.type LIKE 'petition.%' AND {has_partnership("o.id", "p")}
        OR m.type = 'signature.withdrawn' AND (
            m.brought OR {has_partnership("o.id", "p", "'active', 'ended'", receiving=True)}
        )
    ORDER BY m.number, e.id FOR KEY SHARE OF e
""")
_COUNTED_TARGETS = text(f"""
    SELECT e.organization_id, e.id FROM webhook_endpoints e
    WHERE e.organization_id = ANY (:organization_ids) AND e.state <> 'disabled' AND '{COUNTED}' = ANY (e.types)
    ORDER BY e.id FOR KEY SHARE
""")
_TAKEN = text("DELETE FROM outbox_messages WHERE number = ANY (:numbers)")
_WRITE = text("""
    WITH at AS MATERIALIZED (SELECT clock_timestamp() AS made)
    INSERT INTO webhook_messages
        (id, endpoint_id, type, ordered, content, state, attempt_count, created_at, due_at, retried_until)
    SELECT n.id, n.endpoint_id, n.type, n.type = ANY (:ordered), CAST(n.content AS jsonb), 'due', 0,
        at.made, at.made, at.made + CAST(:lifetime AS interval)
    FROM at, unnest(
        CAST(:ids AS uuid[]), CAST(:endpoint_ids AS uuid[]), CAST(:types AS text[]), CAST(:contents AS text[])
    ) AS n (id, endpoint_id, type, content)
""")


class _Told(NamedTuple):
    """What an endpoint is told, in the place of an outbox message."""

    place: int
    endpoint_id: UUID
    type: str
    content: dict[str, Any]


async def spread(session: AsyncSession) -> Sequence[int]:
    """Take up to `BATCH` outbox messages out and write webhook messages; the numbers of what was taken out.

    What makes no sense is taken out too: it would be there for ever.
    """
    await feeding.alone(session)
    columns = (OutboxMessage.number, OutboxMessage.type, OutboxMessage.organization_id, OutboxMessage.content)
    rows = (await session.execute(select(*columns).order_by(OutboxMessage.number).limit(BATCH))).all()
    said = understood(rows)
    places = {UUID(one.content["consent_id"]): one.number for one in said if one.type == CONSENT_GIVEN}
    numbered, held = await feeding.number(session, list(places)) if places else ([], set())
    told = await _counted(session, places, numbered)
    told += await _announced(session, _merged(one for one in said if one.type != CONSENT_GIVEN))
    await _write(session, sorted(told, key=attrgetter("place")))
    left = {places[consent_id] for consent_id in held}
    taken = [row.number for row in rows if row.number not in left]
    await session.execute(_TAKEN, {"numbers": taken})
    return taken


async def _counted(session: AsyncSession, places: Mapping[UUID, int], numbered: Iterable[Numbered]) -> list[_Told]:
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


def _merged(said: Iterable[Said]) -> dict[int, Said]:
    """The messages by number. Of an erasure that two rooms announce to one organization the last, saying both."""
    last: dict[object, Said] = {}
    for one in said:
        if one.type == PERSON_ERASED:
            key = (one.organization_id, one.content["person_id"])
            last[key] = _with_signatures_of(last.get(key), one)
        else:
            last[one.number] = one
    return {one.number: one for one in last.values()}


def _with_signatures_of(earlier: Said | None, one: Said) -> Said:
    ids = [*(earlier.content["signature_ids"] if earlier else []), *one.content["signature_ids"]]
    return one._replace(content=one.content | {"signature_ids": list(dict.fromkeys(ids))})


async def _announced(session: AsyncSession, said: Mapping[int, Said]) -> list[_Told]:
    if not said:
        return []
    petition_ids = [one.content.get("petition_id") for one in said.values()]
    columns = {
        "numbers": list(said),
        "types": [one.type for one in said.values()],
        "organization_ids": [one.organization_id for one in said.values()],
        "petition_ids": [UUID(id_) if id_ is not None else None for id_ in petition_ids],
        "brought": [one.content.get("brought", False) for one in said.values()],
    }
    targets = await session.execute(_TARGETS, columns)
    return [_Told(number, endpoint_id, said[number].type, said[number].content) for number, endpoint_id in targets]


async def _write(session: AsyncSession, told: Sequence[_Told]) -> None:
    columns = {
        # A clock that steps back meanwhile must not turn their order round.
        "ids": sorted(uuid7() for _ in told),
        "endpoint_ids": [one.endpoint_id for one in told],
        "types": [one.type for one in told],
        "contents": [json.dumps(one.content) for one in told],
    }
    if told:
        await session.execute(_WRITE, columns | {"lifetime": LIFETIME, "ordered": list(ORDERED)})
