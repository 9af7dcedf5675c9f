"""The plug-in interface of a room, and the service registry that a process hands to its rooms.

Everything that a room brings to the doors is declared once, as a `Room`, in its `room.py`; `app/rooms.py` lists them.
The API, the worker, key rotation, the migrations and the guards of the house read that list and nothing else.

`Services` is what one process holds open while it runs: typed, frozen, built once by the door. A route asks for it with
`services(request)`, and for what its own room has opened with `services(request).of(TheRoomsServices)`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import Executable, MetaData
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.crypto.key_rotation import SealedColumn
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Base, Database
from app.kit.mail.sender import MailSource
from app.kit.mail.templates import MailTemplates
from app.kit.settings import ServiceSettings
from app.kit.webhooks.message_types import MessageType, MessageTypes

T = TypeVar("T")
S = TypeVar("S", bound=ServiceSettings)

# What becomes of what counts when its person is erased: an anonymous number, or not counted any more.
ErasureChoice: TypeAlias = Literal["keep", "withdraw"]

OpenServices: TypeAlias = "Callable[[Services], AbstractAsyncContextManager[object]]"
# Who holds a key, for keys that begin with a room's own prefix; None when it opens nothing.
Recognizer: TypeAlias = Callable[[AsyncSession, str], Awaitable[Any]]
# Carries out an act that has waited (`organizations/pending_acts`); a Problem when that is not possible any more.
CarryOut: TypeAlias = Callable[[AsyncSession, Any], Awaitable[None]]
# Runs until the event is set.
WorkerTask: TypeAlias = "Callable[[Services, asyncio.Event], Coroutine[Any, Any, None]]"


class PersonalDataStore(Protocol):
    """What a room keeps of a person: what it is, and how it is destroyed."""

    @property
    def name(self) -> str:
        """The name of its part in what a person downloads."""
        ...

    async def export(self, session: AsyncSession, ring: KeyRing, signer: bytes) -> Any:
        """All that is kept of this person, as JSON."""
        ...

    async def erase(self, signer: bytes, choice: ErasureChoice) -> None:
        """Destroy all that is kept of this person, and commit; harmless to repeat, for it is asked again on failure."""
        ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """Work that the worker looks for in every round, in a transaction of its own.

    `run` returns what it changed. Two workers never run it at the same time: it holds an advisory lock. The lock is
    named by `lock_name`, or by `name`. When you rename a sweep, set `lock_name` to the old name: workers of two
    versions may run at once.
    """

    name: str
    run: Callable[[AsyncSession], Awaitable[Sequence[object]]]
    lock_name: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What a room brings. Everything but the name is optional."""

    name: str
    # Included in the API in this order. Those of `fast_lane` are answered past the framework's machinery.
    routers: Sequence[APIRouter] = ()
    fast_lane: Sequence[APIRouter] = ()
    # Bodies whose routes read them with `kit/web/bodies.py`, for the API's description.
    hand_read_bodies: Sequence[type[BaseModel]] = ()
    # `services` are opened by the API and by the worker, `api_services` by the API only.
    services: Sequence[OpenServices] = ()
    api_services: Sequence[OpenServices] = ()
    # Beginning of a key -> who knows its holder.
    recognizers: Mapping[str, Recognizer] = field(default_factory=dict)
    personal_data: "Callable[[Services], PersonalDataStore] | None" = None
    sealed_columns: Sequence[SealedColumn] = ()
    digested_tables: Sequence[DigestedTable] = ()
    sweeps: "Callable[[Services], Sequence[Sweep]] | None" = None
    background: Sequence[WorkerTask] = ()
    mail_sources: "Callable[[Services, MailTemplates], Sequence[MailSource]] | None" = None
    # Verb of an act that may wait -> what carries it out.
    pending_acts: "Callable[[Services], Mapping[str, CarryOut]] | None" = None
    # Work -> the statement that gives the time at which the oldest of it became due; NULL when nothing is due.
    oldest_due: Mapping[str, Executable] = field(default_factory=dict)
    # What partners can be told by this room, and what depends on the list of all such types.
    message_types: Sequence[MessageType] = ()
    message_type_routers: Callable[[MessageTypes], Sequence[APIRouter]] | None = None
    webhooks: Callable[[MessageTypes], APIRouter] | None = None
    # The tables, for the migrations: those of the whole house unless the room has a schema of its own.
    metadata: MetaData = Base.metadata


@dataclass(frozen=True, slots=True)
class Services:
    """What every room may use, and what each has opened for itself, by its type."""

    settings: ServiceSettings
    database: Database
    rooms: Sequence[Room] = ()
    opened: Mapping[type, object] = field(default_factory=dict)

    def settings_as(self, kind: type[S]) -> S:
        """The settings as this room or tool declares them; TypeError when the process was not started with these."""
        if not isinstance(self.settings, kind):
            raise TypeError(f"this process has no {kind.__name__}")
        return self.settings

    @property
    def key_ring(self) -> KeyRing:
        """The keys that seal and digest personal data."""
        return self.settings.key_ring

    def of(self, kind: type[T]) -> T:
        """The service of this type; KeyError when this process has not opened it."""
        service: Any = self.opened[kind]
        found: T = service
        return found

    def with_service(self, service: object) -> "Services":
        """The same, with one service more."""
        return replace(self, opened={**self.opened, type(service): service})

    @property
    def message_types(self) -> MessageTypes:
        """What partners can be told in this process."""
        return message_types_of(self.rooms)

    def personal_data(self) -> Sequence[PersonalDataStore]:
        """What every room keeps of people, in the order of the rooms: erasing asks them in this order."""
        return [room.personal_data(self) for room in self.rooms if room.personal_data is not None]

    def pending_acts(self) -> Mapping[str, CarryOut]:
        """What carries out the acts of all rooms that may wait, by their verbs."""
        made = [room.pending_acts(self) for room in self.rooms if room.pending_acts is not None]
        return {verb: carry_out for acts in made for verb, carry_out in acts.items()}

    def recognizer_of(self, key: str) -> Recognizer | None:
        """Who may know the holder of this key, by its beginning; None when nobody can."""
        found = (room.recognizers.items() for room in self.rooms)
        return next((recognize for pairs in found for prefix, recognize in pairs if key.startswith(prefix)), None)


def sealed_columns_of(rooms: Sequence[Room]) -> Sequence[SealedColumn]:
    """Everything that these rooms seal for a row. What is not among it stays under its old key when keys rotate."""
    return [column for room in rooms for column in room.sealed_columns]


def digested_tables_of(rooms: Sequence[Room]) -> Sequence[DigestedTable]:
    """Everything in these rooms that is found by a keyed digest. What is not among it is lost when digests rotate."""
    return [table for room in rooms for table in room.digested_tables]


def message_types_of(rooms: Sequence[Room]) -> MessageTypes:
    """The registry of all message types that these rooms bring."""
    return MessageTypes(one for room in rooms for one in room.message_types)


def services(request: Request) -> Services:
    """This process's services."""
    found: Services = request.app.state.services
    return found


@asynccontextmanager
async def open_services(base: Services, openers: Iterable[OpenServices]) -> AsyncIterator[Services]:
    """Open one room's services after the other, each of which may use those before; close them in reverse."""
    async with AsyncExitStack() as stack:
        for opener in openers:
            base = base.with_service(await stack.enter_async_context(opener(base)))
        yield base
