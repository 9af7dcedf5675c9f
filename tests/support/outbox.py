"""What the stories about being told share: endpoints, what waits for them, and the bodies they would be sent."""

import json
from typing import Any, NamedTuple
from uuid import UUID

import httpx

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.outbox import NewMessage, publish
from app.kit.database.session import Database
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.queries import find
from app.partners.models import WebhookEndpoint
from app.partners.outbound.message_types.bodies import bodies_of
from app.partners.outbound.message_types.fan_out import FanOut
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.people.fields.emails import canonical
from app.signatures.background.withdrawal_messages import SIGNATURE_WITHDRAWN
from tests.support.databases import run
from tests.support.factories import person
from tests.support.mailed_links import sign_and_prove
from tests.support.partners import PETITION, SLUG
from tests.support.settings import RING
from tests.support.types import Json

TYPES = MessageTypes(MESSAGE_TYPES)
spread = FanOut(TYPES)


class PendingMessage(NamedTuple):
    """A message that waits for an endpoint, as the delivery hands it over to be written."""

    endpoint_id: UUID
    type: str
    content: Json
    created_at: Any
    organization_id: UUID


async def movement_id(database: Database) -> UUID:
    """The movement's own id."""
    async with database.transaction() as session:
        found = await find(session, "movement")
        assert found is not None
        return found.id


async def insert_mute_endpoint(database: Database, organization_id: UUID, *types: str, state: str = "active") -> UUID:
    """An endpoint that wants these types, all of them if none is named; its id."""
    async with database.transaction() as session:
        made = WebhookEndpoint(
            organization_id=organization_id, sealed=b"sealed", types=list(types or TYPES.subscribable), state=state
        )
        session.add(made)
        await session.flush()
        return made.id


async def publish_all(database: Database, *announcements: NewMessage) -> None:
    """Announce, as a room would."""
    async with database.transaction() as session:
        await publish(session, announcements)


def about(type_: str, petition_id: UUID) -> NewMessage:
    counts = {"threshold_count": 10, "signature_count": 12} if type_ == "petition.milestone_reached" else {}
    return NewMessage(type_, {"petition_id": str(petition_id), "at": now().isoformat(), **counts})


def withdrawal(petition_id: UUID, to: UUID, *, brought: bool = False) -> NewMessage:
    content = {
        "petition_id": str(petition_id),
        "signature_id": str(uuid7()),
        "person_id": "per_00000000000000000000000000000000",
        "brought": brought,
    }
    return NewMessage(SIGNATURE_WITHDRAWN, content, to)


def erasure(to: UUID, *signature_ids: UUID) -> NewMessage:
    content: Json = {
        "person_id": "per_00000000000000000000000000000000",
        "signature_ids": list(map(str, signature_ids)),
        "at": now().isoformat(),
    }
    return NewMessage("person.erased", content, to)


async def fan_out_all(database: Database) -> None:
    """Spread until nothing is left."""
    while True:
        async with database.transaction() as session:
            if not await spread(session):
                return


async def pending(database: Database, endpoint_id: UUID | None = None) -> list[PendingMessage]:
    """What waits for an endpoint, or for all, in the order in which it is to be told."""
    rows = await run(
        database,
        "SELECT m.endpoint_id, m.type, m.content, m.created_at, e.organization_id FROM webhook_messages m"
        " JOIN webhook_endpoints e ON e.id = m.endpoint_id ORDER BY m.id",
    )
    messages = [PendingMessage(*row) for row in rows]
    return [message for message in messages if endpoint_id in {None, message.endpoint_id}]


async def pending_types(database: Database, endpoint_id: UUID) -> list[str]:
    return [message.type for message in await pending(database, endpoint_id)]


async def pending_bodies(database: Database, endpoint_id: UUID | None = None) -> list[Json | None]:
    """What would be sent now, message by message."""
    messages = await pending(database, endpoint_id)
    async with database.transaction() as session:
        written = await bodies_of(session, RING, TYPES, messages)
    return [json.loads(body) if body is not None else None for body in written]


async def pending_data(database: Database, endpoint_id: UUID, type_: str) -> list[Json]:
    """The data of what would be sent now of a type."""
    return [
        body["data"]
        for body in await pending_bodies(database, endpoint_id)
        if body is not None and body["type"] == type_
    ]


async def sign_with_consent(
    client: httpx.AsyncClient, number: int, *, petition: str = PETITION, to: str | None = SLUG, **more: object
) -> Json:
    """Somebody signs, consenting to an organization unless `more` says otherwise, and proves it; the answer.

    Its receipt is the one of the confirmation.
    """
    consents = [{"organization": to, "given": True}] if to else []
    return await sign_and_prove(client, petition, person(number, **{"consents": consents, **more}))


def signer_of(number: int) -> bytes:
    return RING.digest(canonical(person(number)["email"]))
