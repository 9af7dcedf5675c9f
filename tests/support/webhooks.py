"""The other side: HTTP servers that take webhooks, or do whatever a receiver should not do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.models import Organization
from app.organizations.queries import find
from app.partners.models import WebhookMessage
from app.partners.outbound.delivery.worker import deliver
from app.partners.outbound.endpoints import service as endpoints
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.settings import Settings
from tests.support.application import services_for
from tests.support.databases import run, wait_until
from tests.support.services import PATIENCE
from tests.support.time_travel import in_days

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TEST = "webhook.test"
TYPES = MessageTypes(MESSAGE_TYPES)


def http_response(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class ReceivedWebhook:
    """A request as it came. `headers` by names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


ResponseBytes = bytes | None
Respond = Callable[[ReceivedWebhook], ResponseBytes | Awaitable[ResponseBytes]]


@dataclass
class Receiver:
    """A server. `say` gives each answer; None: it is never answered."""

    say: Respond = field(default=lambda _received: OK)
    received: list[ReceivedWebhook] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    # Set when somebody has ended a connection.
    left: asyncio.Event = field(default_factory=asyncio.Event)
    _some: asyncio.Condition = field(default_factory=asyncio.Condition)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def ids(self) -> list[str]:
        """The `webhook-id`s that came, in order."""
        return [one.id for one in self.received]

    async def arrived(self, count: int, seconds: float = PATIENCE) -> Sequence[ReceivedWebhook]:
        """Wait for so many requests."""
        async with asyncio.timeout(seconds), self._some:
            await self._some.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    received = await self._heard(reader)
                    said = self.say(received)
                    said = said if said is None or isinstance(said, bytes) else await said
                    if said is not None:
                        writer.write(said)
                        await writer.drain()
        finally:
            self._writers.discard(writer)
            self.left.set()
            writer.close()

    async def _heard(self, reader: asyncio.StreamReader) -> ReceivedWebhook:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        received = ReceivedWebhook(head[0], headers, body)
        async with self._some:
            self.received.append(received)
            self._some.notify_all()
        return received

    def hang_up(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def receiving(
    say: Respond | None = None, *, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver()
    if say is not None:
        receiver.say = say
    server = await asyncio.start_server(receiver.talk, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        receiver.hang_up()


def responses_in_turn(*answers: ResponseBytes, then: ResponseBytes = OK) -> Respond:
    """These answers in turn, then always the same."""
    left = list(answers)
    return lambda _received: left.pop(0) if left else then


async def insert_endpoint(
    database: Database, settings: Settings, url: str, *, slug: str = "movement", **more: Any
) -> UUID:
    """An endpoint put straight into the database; its id."""
    async with database.transaction() as session:
        organization = await find(session, slug)
        assert isinstance(organization, Organization)
        types = more.pop("types", ["petition.published"])
        made, _ = await endpoints.create(session, settings.key_ring, organization, url=url, types=types, **more)
        return made.id


async def insert_messages(
    database: Database, endpoint_id: UUID, count: int = 1, type_: str = TEST, content: dict[str, Any] | None = None
) -> list[str]:
    """Messages that are due; their `webhook-id`s in order."""
    said = content if content is not None else {}
    if type_ == "person.erased" and content is None:
        said = {"person_id": "0" * 32, "at": now().isoformat(), "signature_ids": []}
    messages = [
        WebhookMessage(
            id=uuid7(),
            endpoint_id=endpoint_id,
            type=type_,
            ordered=type_ in TYPES.ordered,
            content=said,
            retried_until=in_days(3),
        )
        for _ in range(count)
    ]
    async with database.transaction() as session:
        session.add_all(messages)
    return [f"msg_{message.id}" for message in messages]


@asynccontextmanager
async def delivering(settings: Settings, **more: Any) -> AsyncIterator[None]:
    """What delivers, in this process, for as long as the block lasts."""
    ending = asyncio.Event()
    resolver = more.pop("resolver", None)
    chosen = settings.model_copy(update={"sweep_seconds": 0.02, "webhook_timeout_seconds": 5.0, **more})
    own = Database(chosen.database_url.get_secret_value(), name="worker")
    task = asyncio.create_task(deliver(services_for(own, chosen), ending, resolver=resolver))
    try:
        yield
    finally:
        ending.set()
        await task
        await own.close()


async def wait_for_attempts(database: Database, count: int) -> None:
    """Wait for so many attempts."""
    await wait_until(database, f"SELECT count(*) >= {count} FROM delivery_attempts")


async def attempts(database: Database) -> list[tuple[int | None, str | None]]:
    """Status and error of each attempt, in order."""
    rows = await run(database, "SELECT status_code, error FROM delivery_attempts ORDER BY attempted_at, id")
    return [(row[0], row[1]) for row in rows]
