"""The body of a webhook message, written at the moment it is sent and from what is true then."""

from collections import defaultdict
from collections.abc import Sequence

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing
from app.kit.webhooks.message_types import Message, MessageType, MessageTypes


async def body_of(session: AsyncSession, ring: KeyRing, types: MessageTypes, message: Message) -> bytes | None:
    """The body to send, UTF-8 JSON; None when there is nothing left to tell."""
    return (await bodies_of(session, ring, types, [message]))[0]


async def bodies_of(
    session: AsyncSession, ring: KeyRing, types: MessageTypes, messages: Sequence[Message]
) -> list[bytes | None]:
    """The same for many, in their order; what messages of one type have in common is asked for once."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, message in enumerate(messages):
        places[message.type].append(place)
    bodies: list[bytes | None] = [None] * len(messages)
    for name, those in places.items():
        # Of a type that a later version has brought this one can write nothing.
        if name in types:
            written = await types[name].write(session, ring, [messages[place] for place in those])
            for place, data in zip(those, written, strict=True):
                bodies[place] = _body(types[name], messages[place], data)
    return bodies


def _body(type_: MessageType, message: Message, data: BaseModel | None) -> bytes | None:
    if data is None:
        return None
    values = {"type": type_.name, "timestamp": message.created_at, "data": data}
    return type_.payload.model_validate(values).model_dump_json().encode()
