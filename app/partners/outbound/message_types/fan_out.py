"""The fan-out: outbox messages become webhook messages, one for every endpoint that wants them.

What is taken out goes in the transaction in which the webhook messages are written: each is told once to each endpoint,
and what commits late is found late, whatever its number. Messages are made in the order in which they were announced:
one transaction makes them at a time, and the time by which they are ordered is the database's.

The movement hears everything it asks for. Whom else a message reaches, its type's audience says (`audiences.py`).
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
from app.kit.webhooks.message_types import MessageType, MessageTypes
from app.partners.outbound.backoff import LIFETIME
from app.partners.outbound.feed import feed
from app.partners.outbound.feed.feed import Numbered
from app.partners.outbound.message_types.audiences import may_hear, require_known_rules
from app.partners.outbound.message_types.contents import OutboxRow, understood
from app.partners.outbound.message_types.types import COUNTED

# Few: what a transaction holds, an erasure waits for.
BATCH = 500
# Since when the oldest outbox message waits to be fanned out; no row when none does.
OLDEST_DUE = text("SELECT created_at FROM outbox_messages ORDER BY number LIMIT 1")
# Signatures in a message.
MOST_TOLD = 500

# Endpoints are locked: one that is being deleted at this moment is waited for, and told nothing.
_TARGETS = text(f"""
    SELECT m.number, e.id AS endpoint_id
    FROM unnest(
        CAST(:numbers AS bigint[]), CAST(:types AS text[]), CAST(:rules AS text[]), CAST(:organization_ids AS uuid[]),
        CAST(:petition_ids AS uuid[]), CAST(:brought AS boolean[])
    ) AS m (number, type, rule, organization_id, petition_id, brought)
    JOIN webhook_endpoints e ON e.state <> 'disabled' AND m.type = ANY (e.types)
        AND (m.organization_id IS NULL OR m.organization_id = e.organization_id)
    JOIN organizations o ON o.id = e.organization_id
    LEFT JOIN petitions p ON p.id = m.petition_id
    WHERE {may_hear()}
    ORDER BY m.number, e.id FOR KEY SHARE OF e
""")
_TAKEN = text("DELETE FROM outbox_messages WHERE number = ANY (:numbers)")
_WRITE = text("""
    WITH at AS MATERIALIZED (SELECT clock_timestamp() AS made)
    INSERT INTO webhook_messages
        (id, endpoint_id, type, ordered, content, state, attempt_count, created_at, due_at, retried_until)
    SELECT n.id, n.endpoint_id, n.type, n.ordered, CAST(n.content AS jsonb), 'due', 0,
        at.made, at.made, at.made + CAST(:lifetime AS interval)
    FROM at, unnest(
        CAST(:ids AS uuid[]), CAST(:endpoint_ids AS uuid[]), CAST(:types AS text[]), CAST(:ordered AS boolean[]),
        CAST(:contents AS text[])
    ) AS n (id, endpoint_id, type, ordered, content)
""")


class _Made(NamedTuple):
    """A webhook message to one endpoint, in the place of an outbox message."""

    place: int
    endpoint_id: UUID
    type: MessageType
    content: dict[str, Any]


class FanOut:
    """The sweep, for the message types of this process."""

    def __init__(self, types: MessageTypes) -> None:
        """ValueError when a type has an audience that is not known."""
        require_known_rules(types)
        self._types = types

    async def __call__(self, session: AsyncSession) -> Sequence[int]:
        """Take up to `BATCH` outbox messages out and write webhook messages; the numbers of what was taken out.

        What makes no sense is taken out too: it would be there for ever.
        """
        await feed.lock_numbering(session)
        columns = (OutboxMessage.number, OutboxMessage.type, OutboxMessage.organization_id, OutboxMessage.content)
        rows = (await session.execute(select(*columns).order_by(OutboxMessage.number).limit(BATCH))).all()
        read = understood(self._types, rows)
        made, left = await self._counted(session, [one for one in read if one.type.name == COUNTED])
        made += await _announced(session, _merged(one for one in read if one.type.name != COUNTED))
        await _write(session, sorted(made, key=attrgetter("place")))
        taken = [row.number for row in rows if row.number not in left]
        await session.execute(_TAKEN, {"numbers": taken})
        return taken

    async def _counted(self, session: AsyncSession, consents: Sequence[OutboxRow]) -> tuple[list[_Made], set[int]]:
        """The feed's messages of these consents, and the numbers of the rows that must be read again later."""
        if not consents:
            return [], set()
        places = {UUID(one.content["consent_id"]): one.number for one in consents}
        numbered, held = await feed.number(session, list(places))
        made = await _spans(session, self._types[COUNTED], places, numbered)
        return made, {places[consent_id] for consent_id in held}


async def _spans(
    session: AsyncSession, counted: MessageType, places: Mapping[UUID, int], numbered: Iterable[Numbered]
) -> list[_Made]:
    """Consents by spans of numbers, each in the place of its last; a span that tells of nobody makes no message."""
    by_organization: dict[UUID, list[Numbered]] = defaultdict(list)
    for one in numbered:
        by_organization[one.organization_id].append(one)
    endpoints = await _endpoints_of(session, counted, list(by_organization))
    wanted = {id_: by_organization[id_] for id_ in endpoints}
    received = await feed.received(session, [one.number for part in wanted.values() for one in part])
    return [
        _Made(places[part[-1].consent_id], endpoint_id, counted, {"from": part[0].number, "to": part[-1].number})
        for organization_id, all_ in wanted.items()
        for part in _parts(all_)
        if any(one.number in received for one in part)
        for endpoint_id in endpoints[organization_id]
    ]


async def _endpoints_of(
    session: AsyncSession, type_: MessageType, organization_ids: Sequence[UUID]
) -> dict[UUID, list[UUID]]:
    """The endpoints of these organizations that want this type."""
    rows = [OutboxRow(place, type_, id_, {}) for place, id_ in enumerate(organization_ids)]
    endpoints: dict[UUID, list[UUID]] = defaultdict(list)
    for place, endpoint_id in await _targets(session, rows):
        endpoints[organization_ids[place]].append(endpoint_id)
    return endpoints


def _parts(numbered: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    for start in range(0, len(numbered), MOST_TOLD):
        yield numbered[start : start + MOST_TOLD]


def _merged(rows: Iterable[OutboxRow]) -> dict[int, OutboxRow]:
    """The rows by number; of those that are one message (`MessageType.merged_by`) the last, saying what all say."""
    last: dict[object, OutboxRow] = {}
    for one in rows:
        if one.type.merged_by is None:
            last[one.number] = one
        else:
            key = (one.type.name, one.organization_id, one.content[one.type.merged_by])
            last[key] = _joined(last.get(key, one), one)
    return {one.number: one for one in last.values()}


def _joined(earlier: OutboxRow, one: OutboxRow) -> OutboxRow:
    """The later row, its lists joined to those of the earlier."""
    lists = {name: value for name, value in one.content.items() if isinstance(value, list)}
    joined = {name: list(dict.fromkeys([*earlier.content[name], *value])) for name, value in lists.items()}
    return one._replace(content=one.content | joined)


async def _announced(session: AsyncSession, rows: Mapping[int, OutboxRow]) -> list[_Made]:
    """A message for every endpoint that is to hear of a row."""
    targets = await _targets(session, list(rows.values()))
    return [_Made(number, endpoint_id, rows[number].type, rows[number].content) for number, endpoint_id in targets]


async def _targets(session: AsyncSession, rows: Sequence[OutboxRow]) -> Sequence[tuple[int, UUID]]:
    """Row number and endpoint, for every endpoint that is to hear of one of these rows."""
    if not rows:
        return []
    petition_ids = [one.content.get("petition_id") for one in rows]
    columns = {
        "numbers": [one.number for one in rows],
        "types": [one.type.name for one in rows],
        "rules": [one.type.audience.rule if one.type.audience else None for one in rows],
        "organization_ids": [one.organization_id for one in rows],
        "petition_ids": [UUID(id_) if id_ is not None else None for id_ in petition_ids],
        "brought": [one.content.get("brought", False) for one in rows],
    }
    found = await session.execute(_TARGETS, columns)
    return [(row.number, row.endpoint_id) for row in found]


async def _write(session: AsyncSession, made: Sequence[_Made]) -> None:
    columns = {
        # A clock that steps back meanwhile must not turn their order round.
        "ids": sorted(uuid7() for _ in made),
        "endpoint_ids": [one.endpoint_id for one in made],
        "types": [one.type.name for one in made],
        "ordered": [one.type.is_ordered for one in made],
        "contents": [json.dumps(one.content) for one in made],
    }
    if made:
        await session.execute(_WRITE, columns | {"lifetime": LIFETIME})
