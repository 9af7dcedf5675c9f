"""The HTTP protocol of the server: admitted and counted, with deadlines, refused in the form of all our errors.

A connection waits for its client, or its client waits for us. Only the former has a deadline, and may be ended when its
place is needed (`connections.py`). What it reads, and when, is in `request_reader.py`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from app.kit.abuse.client_addresses import CountedClients
from app.kit.web.asgi import STREAMING, Asgi, Receive, Scope, Send
from app.serving.client_requests import ClientRequests
from app.serving.connections import Connections, Limits
from app.serving.refusals import BUSY, EVICTED, TOO_SLOW, UNREAD, Refusal
from app.serving.request_reader import BODY, NOTHING, Flow, RequestReader

# Seconds in which a client must have read some of what fills its buffer.
_UNREAD_SECONDS = 30
# Seconds for which the rest of a body may be waited for while other requests of its address wait for their turn.
_BODY_ALONE_SECONDS = 1.0
# What is asked of a service that has no place left, by whoever looks after it.
_ALWAYS_ANSWERED = {"/healthz", "/readyz"}


class ProtocolFactory:
    """What uvicorn calls for each connection. It is pickled to other processes, and each has connections of its own."""

    def __init__(self, limits: Limits, exempt: list[str]) -> None:
        """`exempt`: the networks whose connections are not counted by address."""
        self._given = limits, exempt
        self._connections = Connections(limits, CountedClients(exempt))

    def __reduce__(self) -> tuple[type["ProtocolFactory"], tuple[Limits, list[str]]]:
        return ProtocolFactory, self._given

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "BoundedProtocol":
        return BoundedProtocol(config, server_state, app_state, _loop, self._connections)


class BoundedProtocol(RequestReader):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, loop, connections)
        self.client_key: bytes | None = None
        self.requests: ClientRequests | None = None
        self.is_guest = False
        # The request that waits for its turn; whether one has it.
        self._turn: asyncio.Future[bool] | None = None
        self._has_turn = False
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport)
        if self.client:
            self.client_key = self._connections.key_of_peer(self.client[0])
        self.since = self.loop.time()
        refusal = self._connections.admit(self)
        if refusal is not None:
            self._refuse(refusal)
            return
        if self.is_guest:
            self.app = _answering_few(self.app)
        if self.requests is not None:
            self.app = self._in_turn(self.app, self.requests)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_ended = True
        if self._turn is not None and self.requests is not None:
            self.requests.leave(self._turn)
        self._connections.leave(self)
        self._connections.hold(-len(self._held))
        self._held = b""
        self.resume_writing()
        super().connection_lost(exc)

    @property
    def is_waiting(self) -> bool:
        return not (self._unanswered or self._is_ended or self._turn is not None)

    def evict(self) -> None:
        EVICTED.record()
        self._end()

    def check_deadline(self, now: float) -> None:
        if self._keeps_others_waiting(now):
            self.evict()
            return
        # While reading is paused it is we who are late.
        if self._unanswered or self._is_ended or self.flow.read_paused or now < self.since + self._seconds():
            return
        if self._part == NOTHING:
            # Nothing was asked. Browsers open connections that they may never use.
            self._end()
        else:
            self._refuse(TOO_SLOW)

    def _keeps_others_waiting(self, now: float) -> bool:
        """Whether it has its turn, waits for the rest of a body, and others of its address wait for their turn."""
        if not self._has_turn or self.requests is None or not self.requests.are_waiting or not self.is_waiting:
            return False
        # What large bodies may take is bounded where they are read.
        return now >= self.since + _BODY_ALONE_SECONDS and "body_seconds" not in self.cycle.scope

    def _in_turn(self, app: Callable[..., Any], requests: ClientRequests) -> Asgi:
        """The application, for whose client's requests are counted."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            turn = requests.enter()
            if turn is not None and not await self._wait_for(turn, requests):
                return
            self._has_turn = is_counted = True

            def end() -> None:
                nonlocal is_counted
                if is_counted:
                    self._has_turn = is_counted = False
                    requests.end()

            scope[STREAMING] = end
            try:
                await app(scope, receive, send)
            finally:
                end()

        return answer

    async def _wait_for(self, turn: asyncio.Future[bool], requests: ClientRequests) -> bool:
        """Wait until a request may begin; False when its client has left."""
        self._turn = turn
        try:
            return await turn
        except asyncio.CancelledError:
            requests.give_up(turn)
            raise
        finally:
            self._turn = None

    def _seconds(self) -> float:
        """How long the client may take for what it is doing."""
        if self._is_idle and self._answered is not None:
            return self._limits.keep_alive_seconds
        if self._part != BODY:
            return self._limits.header_seconds
        seconds: float = self.cycle.scope.get("body_seconds", self._limits.body_seconds)  # type: ignore[assignment]
        return seconds

    def _refuse(self, refusal: Refusal) -> None:
        """Log the refusal, answer with it where an answer can still be given, and end the connection."""
        refusal.record()
        if self._may_answer():
            self.transport.write(refusal.answer())
        self._end()

    def _may_answer(self) -> bool:
        cycle = self._answered
        if cycle is None or not cycle.response_started:
            return True
        # Of a request that was answered before all of it came nothing more is said.
        return cycle.response_complete and not (self._part == BODY and cycle is self.cycle)

    def _end(self) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        if self.cycle is not None and not self.cycle.response_complete:
            # The application need not wait for a body that will not come, and its answer has nowhere to go.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch_reader(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(_UNREAD_SECONDS, self._check_reader, size)

    def _check_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch_reader()
            return
        self._unread = None
        UNREAD.record()
        self.transport.abort()


def _answering_few(app: Callable[..., Any]) -> Asgi:
    """The application, for whoever is one too many: it is told how we are, and nothing else."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _ALWAYS_ANSWERED:
            await app(scope, receive, send)
            return
        BUSY.record()
        headers, body = BUSY.message()
        await send({"type": "http.response.start", "status": BUSY.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
