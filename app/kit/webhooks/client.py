"""Posting to addresses that others have given us, without becoming a weapon in their hands.

A transport for httpx, and one verb on it. It connects to the very address that was checked (`egress.py`), while
the certificate must still be the host's; it follows no redirect, keeps no cookie, knows no proxy, asks for nothing
compressed, and reads little more of an answer than it keeps. A connection is kept for a minute at the most, and then
the host is resolved and looked at anew.

Ours, because httpx's own transport took 1.26 ms of a processor a request, and this one 0.10 (50 at a time, uvloop).
"""

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import httpx

from app.kit.logs import failure_of, log
from app.kit.webhooks.egress import Address, EgressPolicy, Target, TargetInvalid, TargetRefused, TargetUnresolvable
from app.kit.webhooks.http1 import Connection, ProtocolError, StaleConnection, TooLargeError

# Bytes of an answer's body that are kept.
KEPT = 1024
# Seconds a kept connection may stay with the address that was checked when it was opened.
LIFE = 60.0
# Seconds until a connection must be there, TLS included; and until one address is given up for the next.
_CONNECTING = 5.0
_WORDS: Sequence[tuple[type[BaseException], str]] = (
    (TargetUnresolvable, "unresolvable"),
    (TargetRefused, "refused-target"),
    (TargetInvalid, "refused-target"),
    (httpx.InvalidURL, "refused-target"),
    (TooLargeError, "too-large"),
    (ProtocolError, "protocol"),
    (ssl.SSLError, "tls"),
    (TimeoutError, "timeout"),
    (OSError, "connection"),
)
_REDIRECTS = range(300, 400)
_SUCCESSES = range(200, 300)


class SendError(httpx.TransportError):
    """There is no answer; `word` says why in one word."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Response(NamedTuple):
    """What came of a POST: `status_code` when there was one, the first bytes of its body, and what went wrong.

    `error` is None when and only when it was taken: an answer of 200 to 299, in time.
    """

    status_code: int | None
    body: bytes
    error: str | None
    retry_after: str | None
    seconds: float


class CheckedTransport(httpx.AsyncBaseTransport):
    """Sends to addresses that may be called, over connections that are kept for a while."""

    def __init__(self, targets: EgressPolicy, tls: ssl.SSLContext | None = None) -> None:
        """With who may be called; certificates are believed as httpx believes them, or as `tls` does."""
        self._targets = targets
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._idle: dict[tuple[str, str, int], list[Connection]] = {}
        # Of every connection that is open.
        self._ends: dict[Connection, asyncio.TimerHandle] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and give what is kept of the answer; Unsent. Whoever calls bounds the time."""
        try:
            target = self._targets.read(_address(request))
            status, headers, body = await self._exchange(target, _written(request, target))
        except (TargetUnresolvable, TargetRefused, TargetInvalid, OSError, ProtocolError) as error:
            raise SendError(error_code(error)) from error
        # httpx would unpack what says that it is packed: nobody asked for that.
        plain = [(name, value) for name, value in headers if name.lower() != b"content-encoding"]
        return httpx.Response(status, headers=plain, content=body, request=request)

    async def _exchange(self, target: Target, message: Sequence[bytes]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        connection = self._kept(target)
        if connection is not None:
            try:
                return await self._asked(target, connection, message)
            except StaleConnection:
                # It was closed just when it was to be used again: that says nothing about the receiver.
                pass
        return await self._asked(target, await self._connect(target), message)

    async def _asked(
        self, target: Target, connection: Connection, message: Sequence[bytes]
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        try:
            answer = await connection.ask(message)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable and connection.age < LIFE:
            self._idle.setdefault(target[:3], []).append(connection)
        else:
            connection.abort()
        return answer.status_code, answer.headers, bytes(answer.body[:KEPT])

    def _kept(self, target: Target) -> Connection | None:
        idle = self._idle.get(target[:3], [])
        while idle:
            connection = idle.pop()
            if not connection.closed and connection.age < LIFE:
                return connection
            connection.abort()
        return None

    async def _connect(self, target: Target) -> Connection:
        """A new connection to the first of the host's addresses that takes it."""
        async with asyncio.timeout(_CONNECTING):
            addresses = await self._targets.addresses(target)
            for address in addresses[:-1]:
                try:
                    async with asyncio.timeout(_CONNECTING / len(addresses)):
                        return await self._opened(target, address)
                except ssl.SSLError:
                    raise
                except OSError:
                    continue
            return await self._opened(target, addresses[-1])

    async def _opened(self, target: Target, address: Address) -> Connection:
        tls = self._tls if target.scheme == "https" else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._forget, target[:3]),
            str(address),
            target.port,
            ssl=tls,
            server_hostname=target.host if tls else None,
        )
        if not connection.closed:
            self._ends[connection] = asyncio.get_running_loop().call_later(LIFE, self._expire, connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        end = self._ends.pop(connection, None)
        if end is not None:
            # It would keep the connection, and what that has read, in memory until then.
            end.cancel()
        idle = self._idle.get(connection.key)
        if idle and connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.key, None)

    def _expire(self, connection: Connection) -> None:
        if connection in self._idle.get(connection.key, []):
            connection.abort()

    async def aclose(self) -> None:
        for connection in [one for idle in self._idle.values() for one in idle]:
            connection.abort()
        self._idle.clear()


class WebhookClient:
    """Posts, each within so many seconds, from the look-up of its host to the end of its answer."""

    def __init__(self, transport: httpx.AsyncBaseTransport, targets: EgressPolicy, seconds: float) -> None:
        self._transport = transport
        self._targets = targets
        self._seconds = seconds

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Post once. Never raises: whatever goes wrong, here or there, is what came of it."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._posted(self._targets.read(url), headers, body)
            end = (response.status_code, response.content, _fault(response.status_code))
            return Response(*end, response.headers.get("retry-after"), time.perf_counter() - began)
        except (SendError, TargetInvalid, TimeoutError) as error:
            word = error_code(error)
        except Exception as error:  # noqa: BLE001 - one address must not end what delivers to all the others
            log.warning("posting failed", **failure_of(error))
            word = error_code(error)
        return Response(None, b"", word, None, time.perf_counter() - began)

    async def _posted(self, target: Target, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        # httpx would spell some paths in another way.
        more = {"target": target.path.encode("ascii")}
        request = httpx.Request("POST", _origin(target), headers=headers, content=body, extensions=more)
        return await self._transport.handle_async_request(request)


@lru_cache(1024)
def _origin(target: Target) -> httpx.URL:
    return httpx.URL(target._replace(path="/").url)


def _address(request: httpx.Request) -> str:
    """Where it goes, with the path as it was given: the extension `target`, as httpcore has it."""
    path = request.extensions.get("target")
    if path is None:
        return str(request.url)
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}{path.decode('ascii')}"


def error_code(error: BaseException) -> str:
    """One word for what went wrong, that names nothing of ours or theirs."""
    if isinstance(error, SendError):
        return error.word
    return next((word for kind, word in _WORDS if isinstance(error, kind)), "connection")


def _fault(status: int) -> str | None:
    if status in _SUCCESSES:
        return None
    return "redirect" if status in _REDIRECTS else "status"


def _written(request: httpx.Request, target: Target) -> tuple[bytes, bytes]:
    """Head and body as they go over the wire. A header of httpx's holds no line break that it was not given."""
    lines = [f"{request.method} {target.path} HTTP/1.1", f"Host: {target.authority}"]
    lines += _lines((name, value) for name, value in request.headers.items() if name not in {"host", "accept-encoding"})
    return ("\r\n".join([*lines, "Accept-Encoding: identity", "", ""])).encode("ascii"), request.content


def _lines(headers: Iterable[tuple[str, str]]) -> list[str]:
    lines = [f"{name}: {value}" for name, value in headers]
    if any("\r" in line or "\n" in line for line in lines):
        raise ProtocolError
    return lines
