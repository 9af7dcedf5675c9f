"""What the stories about being told share: endpoints, what waits for them, and the bodies they would be sent."""

import json
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from movement import SECRET_KEYS, Json, person, run
from partnering import PETITION, SLUG

from app.kit.crypto.sealing import KeyRing
from app.kit.database.outbox import NewMessage, publish
from app.kit.database.session import Database
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.queries import find
from app.partners.models import WebhookEndpoint
from app.partners.outbound.message_types.bodies import bodies_of
from app.partners.outbound.message_types.fan_out import FanOut
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.people.fields.emails import canonical

RING = KeyRing.parse(SECRET_KEYS)
TYPES = MessageTypes(MESSAGE_TYPES)
spread = FanOut(TYPES)


class Waiting(NamedTuple):
    """A message that waits for an endpoint, as the delivery hands it over to be written."""

    endpoint_id: UUID
    type: str
    content: Json
    created_at: Any
    organization_id: UUID


async def movement(database: Database) -> UUID:
    """The movement's own id."""
    async with database.transaction() as session:
        found = await find(session, "movement")
        assert found is not None
        return found.id


async def endpoint(database: Database, organization_id: UUID, *types: str, state: str = "active") -> UUID:
    """An endpoint that wants these types, all of them if none is named; its id."""
    async with database.transaction() as session:
        made = WebhookEndpoint(
            organization_id=organization_id, sealed=b"sealed", types=list(types or TYPES.subscribable), state=state
        )
        session.add(made)
        await session.flush()
        return made.id


async def say(database: Database, *announcements: NewMessage) -> None:
    """Announce, as a room would."""
    async with database.transaction() as session:
        await publish(session, announcements)


async def spread_all(database: Database) -> None:
    """Spread until nothing is left."""
    while True:
        async with database.transaction() as session:
            if not await spread(session):
                return


async def waiting(database: Database, endpoint_id: UUID | None = None) -> list[Waiting]:
    """What waits for an endpoint, or for all, in the order in which it is to be told."""
    rows = await run(
        database,
        "SELECT m.endpoint_id, m.type, m.content, m.created_at, e.organization_id FROM webhook_messages m"
        " JOIN webhook_endpoints e ON e.id = m.endpoint_id ORDER BY m.id",
    )
    messages = [Waiting(*row) for row in rows]
    return [message for message in messages if endpoint_id in {None, message.endpoint_id}]


async def types_for(database: Database, endpoint_id: UUID) -> list[str]:
    return [message.type for message in await waiting(database, endpoint_id)]


async def bodies(database: Database, endpoint_id: UUID | None = None) -> list[Json | None]:
    """What would be sent now, message by message."""
    messages = await waiting(database, endpoint_id)
    async with database.transaction() as session:
        written = await bodies_of(session, RING, TYPES, messages)
    return [json.loads(body) if body is not None else None for body in written]


async def news(database: Database, endpoint_id: UUID, type_: str) -> list[Json]:
    """The data of what would be sent now of a type."""
    return [body["data"] for body in await bodies(database, endpoint_id) if body is not None and body["type"] == type_]


async def sign(
    client: httpx.AsyncClient, number: int, *, petition: str = PETITION, to: str | None = SLUG, **more: object
) -> Json:
    """Somebody signs, consenting to an organization unless `more` says otherwise; the answer."""
    consents = [{"organization": to, "given": True}] if to else []
    body = person(number, **{"consents": consents, **more})
    answer = await client.post(f"/v1/petitions/{petition}/signatures", json=body)
    assert answer.status_code == 201, answer.text
    signed: Json = answer.json()
    return signed


def signer_of(number: int) -> bytes:
    return RING.digest(canonical(person(number)["email"]))
