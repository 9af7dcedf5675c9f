"""The requests of one client address are answered a few at once, whatever they are; everybody else is not kept waiting.

On the code before, sixty connections of one address were all answered at the same time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn

from app.kit.web.asgi import STREAMING, Receive, Scope, Send
from app.serving.client_requests import ClientRequests
from app.serving.connections import Limits
from app.serving.protocol import ProtocolFactory
from tests.serving.conftest import Serve
from tests.serving.test_connections import AT, COUNTED, signing
from tests.support.raw_http import asked, connect, is_closed, opened, read_answer, wait_for

AT_ONCE, CROWD = 4, 60
ME, SOMEBODY = "127.0.0.1", "127.0.0.2"
LIMITS = Limits(
    connections=1000,
    connections_per_client=100,
    requests_per_client=AT_ONCE,
    header_seconds=60,
    body_seconds=60,
    keep_alive_seconds=60,
    header_bytes=32768,
)
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Desk:
    """An application that answers when it is told to, and knows who was being answered meanwhile."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.under_way: set[str] = set()
        self.most = 0
        self.may_answer: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"]
        self.begun.append(name)
        self.under_way.add(name)
        self.most = max(self.most, sum(one.startswith("/me") for one in self.under_way))
        await self._notify()
        try:
            await self._answer(name, scope, receive, send)
        finally:
            self.under_way.discard(name)
            await self._notify()

    async def _answer(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        if "body" in name:
            while (await receive()).get("more_body"):
                pass
        if "stream" in name:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            scope[STREAMING]()
            self.under_way.discard(name)
        await self.may_answer.setdefault(name, asyncio.Event()).wait()
        if "fails" in name:
            raise ValueError
        if "stream" not in name:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    def finish(self, name: str) -> None:
        self.may_answer.setdefault(name, asyncio.Event()).set()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(happened)


Call = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[Call]:
    """The application behind our protocol, and how to ask it something from an address."""
    factory = ProtocolFactory(LIMITS, [])
    config = uvicorn.Config(desk, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.Server(config).server_state
    server = await asyncio.get_running_loop().create_server(lambda: factory(config, state, {}), ME, 0)
    port = server.sockets[0].getsockname()[1]
    clients: list[Client] = []

    async def call(path: str, source: str = ME, sent: bytes = b"\r\n") -> Client:
        client = await asyncio.open_connection(ME, port, local_addr=(source, 0))
        clients.append(client)
        client[1].write(f"POST {path} HTTP/1.1\r\nHost: here\r\n".encode() + sent)
        return client

    try:
        yield call
    finally:
        for _, writer in clients:
            writer.close()
        for name in desk.begun:
            desk.finish(name)
        server.close()


async def fill(desk: Desk, call: Call, kind: str = "") -> None:
    """As many requests as one address may have under way."""
    for number in range(AT_ONCE):
        await call(f"/me/first{kind}/{number}")
    await desk.until(lambda: len(desk.begun) == AT_ONCE)


async def test_a_few_at_once_in_the_order_they_came_and_others_meanwhile() -> None:
    desk = Desk()
    async with served(desk) as call:
        names = [f"/me/{number}" for number in range(CROWD)]
        for name in names:
            await call(name)
            # One after the other, so that there is an order.
            if len(desk.begun) < AT_ONCE:
                await desk.until(lambda name=name: name in desk.begun)  # type: ignore[misc]
        desk.finish("/somebody")
        reader, _ = await call("/somebody", SOMEBODY)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert desk.begun == [*names[:AT_ONCE], "/somebody"]
        for name in names:
            desk.finish(name)
        await desk.until(lambda: len(desk.begun) == CROWD + 1)
        assert [name for name in desk.begun if name != "/somebody"] == names
        assert desk.most == AT_ONCE


@pytest.mark.parametrize("kind", ["", "-fails"])
async def test_a_turn_ends_with_its_request_however_that_ends(kind: str) -> None:
    desk = Desk()
    async with served(desk) as call:
        await fill(desk, call, kind)
        await call("/me/next")
        desk.finish(f"/me/first{kind}/0")
        await desk.until(lambda: "/me/next" in desk.begun)


async def test_who_leaves_while_answered_keeps_the_turn_until_the_work_is_done() -> None:
    desk = Desk()
    async with served(desk) as call:
        leaving = [await call(f"/me/gone/{number}") for number in range(AT_ONCE)]
        await desk.until(lambda: len(desk.begun) == AT_ONCE)
        for _, writer in leaving:
            writer.close()
            await writer.wait_closed()
        await call("/me/next")
        desk.finish("/somebody")
        await (await call("/somebody", SOMEBODY))[0].readline()
        assert "/me/next" not in desk.begun
        desk.finish("/me/gone/1")
        await desk.until(lambda: "/me/next" in desk.begun)
        assert desk.most == AT_ONCE


async def test_who_leaves_while_waiting_is_not_answered_at_all() -> None:
    desk = Desk()
    async with served(desk) as call:
        await fill(desk, call)
        _, writer = await call("/me/gone")
        desk.finish("/somebody")
        await (await call("/somebody", SOMEBODY))[0].readline()
        writer.close()
        await writer.wait_closed()
        await call("/me/next")
        desk.finish("/somebody/2")
        await (await call("/somebody/2", SOMEBODY))[0].readline()
        desk.finish("/me/first/0")
        await desk.until(lambda: "/me/next" in desk.begun)
        assert "/me/gone" not in desk.begun


async def test_a_stream_leaves_the_count_once_its_head_is_sent() -> None:
    desk = Desk()
    async with served(desk) as call:
        for number in range(3 * AT_ONCE):
            await call(f"/me/stream/{number}")
        await desk.until(lambda: len(desk.begun) == 3 * AT_ONCE)
        # And at its end it is not taken off the count once more.
        for number in range(AT_ONCE):
            desk.finish(f"/me/stream/{number}")
        for number in range(2 * AT_ONCE):
            await call(f"/me/{number}")
        desk.finish("/somebody")
        await (await call("/somebody", SOMEBODY))[0].readline()
        await desk.until(lambda: desk.most == AT_ONCE)
        assert sum(name.startswith("/me/") and "stream" not in name for name in desk.begun) == AT_ONCE


async def test_whose_body_does_not_come_gives_way_to_who_waits() -> None:
    desk = Desk()
    async with served(desk) as call:
        for number in range(AT_ONCE):
            await call(f"/me/body/{number}", sent=b"Content-Length: 100\r\n\r\nhalf")
        await desk.until(lambda: len(desk.begun) == AT_ONCE)
        for number in range(AT_ONCE):
            desk.finish(f"/me/body/{number}")
        await call("/me/next")
        await desk.until(lambda: "/me/next" in desk.begun)


async def test_a_turn_that_is_given_and_stopped_in_one_moment_is_not_lost() -> None:
    idle = []
    requests = ClientRequests(1, lambda: idle.append(True))
    assert requests.enter() is None
    first, second, third = requests.enter(), requests.enter(), requests.enter()
    assert first is not None
    assert second is not None
    assert third is not None
    second.cancel()
    requests.end()
    requests.give_up(first)
    assert third.result()
    requests.give_up(second)
    requests.leave(third)
    requests.end()
    assert idle
    assert not requests.under_way


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


UNKNOWN = b"{" + b",".join(b'"%x": 0' % number for number in range(2500)) + b"}"
FLOODS = [
    pytest.param(post(f"{AT}/signatures", UNKNOWN), 422, id="unknown fields"),
    pytest.param(post("/v1/me", b" " * 22_000), 405, id="method"),
    pytest.param(post("/nowhere", b" " * 22_000), 404, id="blanks"),
    pytest.param(post("/v1/partners/nobody/signatures", b"[" + b" " * 16_000 + b"]"), 0, id="unsigned"),
    pytest.param(post("/healthz", b"x").replace(b"POST", b"GET"), 200, id="a body nobody reads"),
]


@pytest.mark.process
@pytest.mark.parametrize(("flood", "status"), FLOODS)
def test_sixty_connections_of_one_address_come_anew_and_somebody_signs(serve: Serve, flood: bytes, status: int) -> None:
    server = serve(MULTITUDE_REQUESTS_PER_CLIENT="8", **COUNTED)
    with opened(server.port, CROWD, flood) as connections:
        assert asked(server.port, signing(1), source=SOMEBODY).status == 201
        for connection in connections:
            answer = read_answer(connection)
            assert answer.status == status or (not status and 400 <= answer.status < 500), answer
            assert b"connection: close" in answer.head.lower()
            wait_for(lambda connection=connection: is_closed(connection))  # type: ignore[misc]
        assert asked(server.port, signing(2)).status == 201


@pytest.mark.process
def test_a_small_mistake_sends_nobody_away_and_a_refusal_is_seen(serve: Serve) -> None:
    server = serve(**COUNTED)
    with connect(server.port) as connection:
        for _ in range(2):
            connection.sendall(post(f"{AT}/signatures", b"{}"))
            answer = read_answer(connection)
            assert answer.status == 422
            assert b"connection: close" not in answer.head.lower()
    # While its body still comes.
    with connect(server.port) as connection:
        head, body = b"POST /nowhere HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", b"x" * 1_000_000
        connection.sendall(head)
        answer = read_answer(connection)
        assert (answer.status, json.loads(answer.body)["type"]) == (404, "urn:multitude:problem:not-found")
        assert b"connection: close" in answer.head.lower()
        connection.sendall(body)
        wait_for(lambda: is_closed(connection))


@pytest.mark.process
def test_streams_of_one_address_do_not_hold_up_its_requests(serve: Serve) -> None:
    server = serve(MULTITUDE_REQUESTS_PER_CLIENT="2", **COUNTED)
    stream = f"GET {AT}/stream HTTP/1.1\r\nHost: multitude.test\r\n\r\n".encode()
    with opened(server.port, 10, stream) as streams:
        for connection in streams:
            assert read_answer(connection).status == 200
        assert asked(server.port, signing(3)).status == 201
