"""The connections of one process: how many there are, whose, which of them wait for their client, and for how long.

A place is always found for a newcomer, as long as any connection only waits: the one that has waited longest for its
client is ended for it. So neither idle connections nor half requests keep others out, and a crowd behind one address is
held up only when it is really being answered.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from app.kit.abuse.client_addresses import CountedClients
from app.serving.client_requests import ClientRequests
from app.serving.refusals import BUSY, TOO_MANY_CONNECTIONS, Refusal

# Seconds between two looks at who is overdue.
_SWEEP_SECONDS = 1.0
# Seconds between two looks at all connections for those that wait, where they are fewer than one in so many.
_ASK_SECONDS, _FEW = 0.05, 16
# Connections beyond the limit, which may ask whether the process is alive.
_GUESTS = 32
# Bytes of all connections together that were sent ahead of an answer.
_MOST_HELD = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What the connections of one process may take up; times in seconds, sizes in bytes."""

    connections: int
    connections_per_client: int
    requests_per_client: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    header_bytes: int


class Connection(Protocol):
    """What is asked of a connection here.

    `client_key` and `requests` are None where the client's connections are not counted; `since` is the loop's time at
    which what it does now began; a guest is one too many, and may only ask whether the process is alive.
    """

    client_key: bytes | None
    requests: ClientRequests | None
    since: float
    is_guest: bool

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its client; else its client waits for us."""
        ...

    def evict(self) -> None:
        """End it, for its place is needed; from then on it does not wait."""

    def check_deadline(self, now: float) -> None:
        """End it when it waits and is overdue."""


class _Client:
    """One client address: its connections, and its requests under way, which may outlive them."""

    def __init__(self, most: int, when_idle: Callable[[], None]) -> None:
        self.connections: set[Connection] = set()
        self.requests = ClientRequests(most, when_idle)


class Connections:
    """The connections of one process.

    Nothing is written down here for a request: who waits is asked when it matters, of all once in a while.
    """

    def __init__(self, limits: Limits, clients: CountedClients) -> None:
        self.limits = limits
        self.key_of_peer = clients.key_of_peer
        self._held = 0
        self._all: set[Connection] = set()
        self._by_client: dict[bytes, _Client] = {}
        # Those that waited when it was last asked, the longest first.
        self._evictable: deque[Connection] = deque()
        self._ask_again_at = 0.0
        self._sweeping = False

    def admit(self, connection: Connection) -> Refusal | None:
        """Count a new connection; why it is refused, if it is."""
        refusal = self._refusal_of(connection)
        self._all.add(connection)
        if connection.client_key is not None:
            client = self._client(connection.client_key)
            client.connections.add(connection)
            connection.requests = client.requests
        self._begin_sweeping()
        return refusal

    def _client(self, key: bytes) -> _Client:
        client = self._by_client.get(key)
        if client is None:
            client = _Client(self.limits.requests_per_client, partial(self._forget, key))
            self._by_client[key] = client
        return client

    def _forget(self, key: bytes) -> None:
        """Keep nothing of an address that has left, once its last request has ended."""
        client = self._by_client.get(key)
        if client is not None and not client.connections and not client.requests.under_way:
            del self._by_client[key]

    def _refusal_of(self, connection: Connection) -> Refusal | None:
        client = self._by_client.get(connection.client_key) if connection.client_key is not None else None
        mine = client.connections if client is not None else set()
        if len(mine) >= self.limits.connections_per_client:
            longest = min(filter(_waits, mine), key=_since, default=None)
            if longest is None:
                return TOO_MANY_CONNECTIONS
            longest.evict()
        elif len(self._all) >= self.limits.connections and not self._evict(connection.since):
            connection.is_guest = True
            return BUSY if len(self._all) >= self.limits.connections + _GUESTS else None
        return None

    def _evict(self, now: float) -> bool:
        """End the connection that has waited longest; whether there is one."""
        if not self._evictable and now >= self._ask_again_at:
            self._evictable.extend(sorted(filter(_waits, self._all), key=_since))
            # Where many wait, asking all is paid by many newcomers, however fast they come.
            is_cheap = len(self._evictable) * _FEW >= len(self._all)
            self._ask_again_at = now if is_cheap else now + _ASK_SECONDS
        while self._evictable:
            longest = self._evictable.popleft()
            if longest.is_waiting:
                longest.evict()
                return True
        return False

    def leave(self, connection: Connection) -> None:
        """A connection that was counted is gone."""
        self._all.discard(connection)
        if connection.client_key is not None:
            self._by_client[connection.client_key].connections.discard(connection)
            self._forget(connection.client_key)

    def hold(self, size: int) -> bool:
        """Whether so many bytes more may be held for later, or fewer when negative."""
        if size > 0 and self._held + size > _MOST_HELD:
            return False
        self._held += size
        return True

    def _begin_sweeping(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._all):
            connection.check_deadline(now)
        self._sweeping = False
        if self._all:
            self._begin_sweeping()


def _waits(connection: Connection) -> bool:
    return connection.is_waiting


def _since(connection: Connection) -> float:
    return connection.since
