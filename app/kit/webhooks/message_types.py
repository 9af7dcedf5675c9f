"""The registry of message types: what endpoints can be told, each type one record.

A room says in its `room.py` which types it brings. The registry of all of them is made where the rooms are put
together and handed to whoever needs it: nothing that is imported knows the whole list.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing


class Message(Protocol):
    """A webhook message that is to be sent: what it is about, by ids, and to whom."""

    @property
    def type(self) -> str: ...
    @property
    def content(self) -> Mapping[str, Any]: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def organization_id(self) -> UUID: ...


# Gives the payload's `data` of each of these messages, all of one type, from what is true now: a model, or None when
# there is nothing left to tell.
Write: TypeAlias = Callable[[AsyncSession, KeyRing, Sequence[Message]], Awaitable[Sequence[BaseModel | None]]]


@dataclass(frozen=True, slots=True)
class Audience:
    """Which organizations hear of an outbox row, as data: the statement that finds the endpoints is written from it.

    `rule` names who may hear; what rules there are, the room that fans out says, and it refuses to start with a rule it
    does not know. `is_addressed`: the row must name one organization, and nobody else hears of it.
    """

    rule: str = "everybody"
    is_addressed: bool = False


@dataclass(frozen=True, slots=True)
class MessageType:
    """A type of webhook message.

    `description`: one line for whoever chooses what to be told. `payload`: the body that is sent, with `type`,
    `timestamp` and `data`; its docstring is the type's description in OpenAPI. `write`: gives `data` when it is sent.

    `content`: what an outbox row must hold for a message to be made of it, and `audience`: for whom. Without these no
    outbox row makes one: whoever offers the type writes the messages. `outbox_type`: the type of these outbox rows,
    when it is not the same name. `merged_by`: a key of the content; of rows for one organization that agree in it and
    are read together one message is made, the last, its lists joined to those of the earlier.

    `is_ordered`: each endpoint gets these one after the other, in the order in which they were made, and one that fails
    holds up those behind it. `is_subscribable`: endpoints choose whether they get it.
    """

    name: str
    description: str
    payload: type[BaseModel]
    write: Write
    content: type[BaseModel] | None = None
    audience: Audience | None = None
    outbox_type: str | None = None
    merged_by: str | None = None
    is_ordered: bool = False
    is_subscribable: bool = True

    def __post_init__(self) -> None:
        if (self.content is None) != (self.audience is None):
            raise ValueError(f"{self.name}: an outbox row needs both a content and an audience")


class MessageTypes:
    """The registry: all message types of this process, in their order, and what is derived from the list."""

    def __init__(self, types: Iterable[MessageType]) -> None:
        """ValueError when two have one name, or are made of the same outbox rows."""
        self._all = tuple(types)
        self._by_name = _each_once((one.name, one) for one in self._all)
        self.by_outbox_type: Mapping[str, MessageType] = _each_once(
            (one.outbox_type or one.name, one) for one in self._all if one.content is not None
        )
        self.subscribable = tuple(one.name for one in self._all if one.is_subscribable)
        self.unsubscribable = tuple(one.name for one in self._all if not one.is_subscribable)
        self.ordered = tuple(one.name for one in self._all if one.is_ordered)

    def __iter__(self) -> Iterator[MessageType]:
        return iter(self._all)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> MessageType:
        """KeyError."""
        return self._by_name[name]


def _each_once(named: Iterable[tuple[str, MessageType]]) -> dict[str, MessageType]:
    found: dict[str, MessageType] = {}
    for name, one in named:
        if name in found:
            raise ValueError(f"there are two message types of the name {name}")
        found[name] = one
    return found
