"""Live counts as server-sent events: one poll per process feeds every stream, however many watch.

An event's id is its content (`count-goal`), so a client that comes back with `Last-Event-ID` is sent only what is new.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable
from app.kit.waiting import wait_for_event
from app.petitions.directory import Directory, Entry
from app.signatures.reading.counts import Counts
from app.signatures.schemas import CountView

_POLL_SECONDS = 1.0
# Proxies close a connection that is silent for half a minute or more.
_KEEP_ALIVE_SECONDS = 15.0
_KEEP_ALIVE = b": still here\n\n"


class TooManyStreams(Unavailable):
    """More live streams are open than the service feeds, or one client may have; read the count instead."""

    slug = "too-many-streams"


@dataclass(slots=True)
class _Channel:
    """One petition's latest count, and how many streams wait for the next."""

    slug: str
    view: CountView
    watchers: int = 0
    ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """The streams of one process."""

    def __init__(self, directory: Directory, counts: Counts, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._open = 0
        self._open_by: Counter[bytes] = Counter()
        self._directory = directory
        self._counts = counts
        self._channels: dict[UUID, _Channel] = {}
        self._polling: asyncio.Task[None] | None = None
        self._closed = False

    @contextmanager
    def admit(self, client: bytes | None) -> Iterator[None]:
        """A place for one stream while the block lasts; TooManyStreams when all places, or the client's, are taken.

        `client` is the key under which its streams are counted, or None.
        """
        if self._open >= self._limit or (client is not None and self._open_by[client] >= self._limit_per_client):
            raise TooManyStreams(retry_after=30)
        self._open += 1
        if client is not None:
            self._open_by[client] += 1
        try:
            yield
        finally:
            self._open -= 1
            if client is not None:
                self._open_by[client] -= 1
                # Nothing is kept of an address that has left.
                if not self._open_by[client]:
                    del self._open_by[client]

    async def follow(self, entry: Entry, last_id: str | None) -> AsyncIterator[bytes]:
        """The petition's counts as they change, with comments in between to keep the connection open."""
        channel = self._channels.get(entry.id)
        if channel is None:
            # While this one reads, another may open the same channel: all use the one that was opened first.
            channel = self._channels.setdefault(entry.id, _Channel(entry.slug, await self._view(entry)))
        channel.watchers += 1
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name="streams")
        try:
            while not (self._closed or channel.ended):
                changed = channel.changed
                if _id_of(channel.view) != last_id:
                    last_id = _id_of(channel.view)
                    yield _event_of(channel.view)
                elif not await wait_for_event(changed, _KEEP_ALIVE_SECONDS):
                    yield _KEEP_ALIVE
        finally:
            channel.watchers -= 1
            if not channel.watchers:
                self._channels.pop(entry.id, None)

    def close(self) -> None:
        """End every stream at once; clients come back by themselves."""
        self._closed = True
        if self._polling is not None:
            self._polling.cancel()
        for channel in self._channels.values():
            channel.changed.set()

    async def _poll(self) -> None:
        while self._channels:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                # All at once, so that they share one query.
                await asyncio.gather(*(self._refresh(channel) for channel in self._channels.values()))
            except Exception as error:  # noqa: BLE001 - a database in trouble must not end the streams
                log.warning("stream poll failed", **failure_of(error))
        self._polling = None

    async def _refresh(self, channel: _Channel) -> None:
        entry = await self._directory.get(channel.slug)
        if entry is None:
            # The public may not see it any more.
            channel.ended = True
            channel.changed.set()
            return
        view = await self._view(entry, fresh=True)
        if view != channel.view:
            channel.view = view
            waiting, channel.changed = channel.changed, asyncio.Event()
            waiting.set()

    async def _view(self, entry: Entry, *, fresh: bool = False) -> CountView:
        count = await (self._counts.refresh(entry.id) if fresh else self._counts.get(entry.id))
        return CountView(signature_count=count, signature_goal=entry.signature_goal)


def _id_of(view: CountView) -> str:
    return f"{view.signature_count}-{view.signature_goal}"


def _event_of(view: CountView) -> bytes:
    return f"event: count\nid: {_id_of(view)}\ndata: {view.model_dump_json()}\n\n".encode()
