"""An HTTP client for addresses that others have given us, without becoming a weapon in their hands.

aiohttp's client, and what it leaves open is closed. It connects to the very address that was checked (`connector.py`),
while the certificate must still be the host's; it follows no redirect, keeps no cookie, knows no proxy, asks for
nothing compressed and unpacks nothing, and reads little more of a response than it keeps (`response_handler.py`). A
connection is kept for a minute at the most, and then the host is resolved and looked at anew.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import certifi
from aiohttp import ClientError, ClientResponseError, ClientSession, ClientTimeout, DummyCookieJar, InvalidURL
from aiohttp import StreamReader as Body
from yarl import URL

from app.kit.logs import failure_of, log
from app.kit.webhooks.connector import CheckedConnector
from app.kit.webhooks.egress import EgressPolicy, Target, TargetInvalid, TargetRefused, TargetUnresolvable
from app.kit.webhooks.response_handler import (
    FIRST_FINAL,
    MOST_BODY,
    MOST_RESPONSE,
    ProtocolError,
    StaleConnection,
    TooLargeError,
)

# Bytes of a response's body that are kept.
KEPT = 1024
_CODES: Sequence[tuple[type[BaseException], str]] = (
    (TargetUnresolvable, "unresolvable"),
    (TargetRefused, "refused-target"),
    (TargetInvalid, "refused-target"),
    (InvalidURL, "refused-target"),
    (TooLargeError, "too-large"),
    (ProtocolError, "protocol"),
    (ClientResponseError, "protocol"),
    (ssl.SSLError, "tls"),
    (TimeoutError, "timeout"),
)
_EXPECTED = (ClientError, ProtocolError, TargetInvalid, TargetRefused, TargetUnresolvable, OSError)
_REDIRECTS = range(300, 400)
_SUCCESSES = range(200, 300)


class Response(NamedTuple):
    """What came of a POST: `status_code` when there was one, the first bytes of its body, and what went wrong.

    `error` is None when and only when it was taken: a response of 200 to 299, in time.
    """

    status_code: int | None
    body: bytes
    error: str | None
    retry_after: str | None
    seconds: float


class WebhookClient:
    """Posts, each within so many seconds, from the look-up of its host to the end of its response."""

    _kept: ClientSession
    _once: ClientSession

    def __init__(self, policy: EgressPolicy, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        """With who may be called; believing the certificates that browsers believe, or those that `tls` does."""
        self._policy = policy
        self._seconds = seconds
        self._tls = tls or ssl.create_default_context(cafile=certifi.where())

    async def __aenter__(self) -> Self:
        self._kept = _session(CheckedConnector(self._policy, self._tls, is_kept=True))
        self._once = _session(CheckedConnector(self._policy, self._tls, is_kept=False))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kept.close()
        await self._once.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Post once. Never raises: whatever goes wrong, here or there, is what came of it."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds):
                status, kept, retry_after = await self._post(self._policy.read(url), headers, body)
            return Response(status, kept, _fault(status), retry_after, time.perf_counter() - began)
        except _EXPECTED as error:
            code = error_code(error)
        except Exception as error:  # noqa: BLE001 - one address must not end what delivers to all the others
            log.warning("posting failed", **failure_of(error))
            code = error_code(error)
        return Response(None, b"", code, None, time.perf_counter() - began)

    async def _post(self, target: Target, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, str | None]:
        sent = _headers(target, headers, body)
        try:
            return await _exchange(self._kept, target, sent, body)
        except StaleConnection:
            # It was closed just when it was to be used again: that says nothing about the receiver. Once more, and over
            # a connection that nobody has used.
            return await _exchange(self._once, target, sent, body)


def _session(connector: CheckedConnector) -> ClientSession:
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        # Whoever calls bounds the time, and the connector that of connecting.
        timeout=ClientTimeout(total=None, sock_connect=None),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        # A response is bounded as a whole.
        max_line_size=MOST_RESPONSE,
        max_field_size=MOST_RESPONSE,
        max_headers=MOST_RESPONSE,
    )


async def _exchange(
    session: ClientSession, target: Target, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes, str | None]:
    # Built from what was read by our rule: nothing is taken apart once more, and the path stays as it was given.
    url = URL.build(scheme=target.scheme, authority=target.authority, path=target.path, encoded=True)
    async with session.post(url, headers=headers, data=body, allow_redirects=False) as response:
        if response.status < FIRST_FINAL:
            raise ProtocolError
        return response.status, await _first(response.content), response.headers.get("Retry-After")


async def _first(content: Body) -> bytes:
    """The bytes of a body that are kept. When there is more than is read, its connection is closed."""
    body = bytearray()
    while len(body) < MOST_BODY and (more := await content.read(MOST_BODY - len(body))):
        body += more
    return bytes(body[:KEPT])


def _headers(target: Target, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    lines = {name: value for name, value in headers.items() if name.lower() not in {"host", "accept-encoding"}}
    text = "".join(f"{name}{value}" for name, value in lines.items())
    if "\r" in text or "\n" in text:
        raise ProtocolError
    text.encode("ascii")
    return {"Host": target.authority, **lines, "Content-Length": str(len(body)), "Accept-Encoding": "identity"}


def error_code(error: BaseException) -> str:
    """One word for what went wrong, that names nothing of ours or theirs."""
    # aiohttp wraps what the system says.
    both = (error, error.__cause__)
    return next((code for kind, code in _CODES if any(isinstance(one, kind) for one in both)), "connection")


def _fault(status: int) -> str | None:
    if status in _SUCCESSES:
        return None
    return "redirect" if status in _REDIRECTS else "status"
