"""Large request bodies, of many mebibytes: read and unpacked within a memory budget, before anybody has looked inside.

Strangers send them too. So every body reserves the bytes it takes up, all reservations together are bounded, and work
that takes long is done in a thread.
"""

import asyncio
import codecs
import zlib
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeAlias, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.kit.database.group_commit import QueueFull
from app.kit.problems import Problem
from app.kit.web.bodies import TooLarge, TooSlow

P = ParamSpec("P")
Result = TypeVar("Result")
OnPart: TypeAlias = Callable[[bytes], Awaitable[object]]

# Seconds for a whole body; and for each further portion of a body larger than one portion, so that a sender who falls
# silent does not keep memory reserved for long.
_BODY_TIMEOUT, _PORTION_TIMEOUT = 30, 5
# Bytes: a sender must manage 64 KiB a second.
_PORTION = _PORTION_TIMEOUT * 64 * 1024
# Bytes: work on less takes no longer than starting a thread. The first so many bytes of every body need no reservation,
# as on all other routes: a crowd of large bodies cannot keep the small ones out.
SMALL = 64 * 1024
_WINDOW = 64 * 1024
# One sender may reserve a quarter of the budget.
_PARTS = 4
# Bodies unpacked at the same time; only one of them may be from an unknown sender.
_AT_ONCE = 2
# A gzip file is a series of members (RFC 1952, section 2.2), in practice one or a few. The last four bytes of each
# member are its size unpacked.
_MOST_MEMBERS = 64
_GZIP, _SIZE = 16 + zlib.MAX_WBITS, 4


class BrokenGzip(Problem):
    """The body is announced as gzip and is none, or not all of one."""

    slug = "broken-gzip"


class BodyReservation:
    """The memory one body has reserved, beyond its first 64 KiB, from the budget of all and from its sender's part.

    `taken` counts the body's bytes so far. A body that is not `buffered` is dropped while it arrives: it counts against
    its sender's part, but not against the budget of all.
    """

    def __init__(self, bodies: "LargeBodies") -> None:
        self._bodies = bodies
        self._sender: Hashable = None
        self._reserved = 0
        self._released_after: asyncio.Future[Any] | None = None
        self.taken = 0
        self.buffered = True

    def assign_to(self, sender: Hashable, *, buffered: bool = True) -> None:
        """Say whose part this counts against, and whether the body is buffered; called before it is read."""
        self._sender, self.buffered = sender, buffered

    def take(self, size: int) -> None:
        """Reserve memory for so many more bytes; QueueFull when there is none left."""
        more = max(0, self.taken + size - SMALL) - self._reserved
        self._bodies.change_reserved(self._sender, more, buffered=self.buffered)
        self._reserved += more
        self.taken += size

    def release_after(self, task: "asyncio.Future[Any]") -> None:
        """Keep the reservation until this task has ended, since it uses the body; it may outlive the request."""
        self._released_after = task

    def release(self) -> None:
        """Give back what was reserved: now, or when the task that still uses the body has ended."""
        if self._released_after is not None and not self._released_after.done():
            self._released_after.add_done_callback(lambda _: self._give_back())
        else:
            self._give_back()

    def _give_back(self) -> None:
        self._bodies.change_reserved(self._sender, -self._reserved, buffered=self.buffered)
        self._reserved = 0


class LargeBodies:
    """The memory budget for large bodies, one per process."""

    def __init__(self, longest: int, most: int) -> None:
        """`longest`: bytes of one body, unpacked; `most`: bytes of all at the same time, a quarter from one sender."""
        self.longest = longest
        self.most = most
        self.reserved = 0
        self._reserved_by: dict[Hashable, int] = {}
        self._unpacking = asyncio.Semaphore(_AT_ONCE)
        self._unpacking_strangers = asyncio.Semaphore(1)

    def change_reserved(self, sender: Hashable, size: int, *, buffered: bool) -> None:
        """Reserve so many bytes, or give them back when negative; QueueFull when that is beyond a bound."""
        by_sender = self._reserved_by.get(sender, 0) + size
        by_all = self.reserved + (size if buffered else 0)
        if size > 0 and (by_all > self.most or by_sender > self.most // _PARTS):
            raise QueueFull
        self.reserved = by_all
        self._reserved_by[sender] = by_sender
        if not by_sender:
            del self._reserved_by[sender]

    @contextmanager
    def reserve(self) -> Iterator[BodyReservation]:
        """A reservation for one body, released when the block ends."""
        reservation = BodyReservation(self)
        try:
            yield reservation
        finally:
            reservation.release()

    async def read(self, request: Request, reservation: BodyReservation, on_part: OnPart | None = None) -> bytes:
        """The body as it was sent; only its last bytes when it is not buffered. `on_part` is given each part of it.

        TooLarge, TooSlow, QueueFull.
        """
        if _announced_length(request) > self.longest:
            raise TooLarge
        # The server's own limit, of any route's body, is to wait for ours.
        request.scope["body_seconds"] = 2 * _BODY_TIMEOUT
        loop, body, quick = asyncio.get_running_loop(), bytearray(), _PORTION
        try:
            async with asyncio.timeout(_BODY_TIMEOUT) as limit:
                last = loop.time() + _BODY_TIMEOUT
                async for part in request.stream():
                    reservation.take(len(part))
                    if reservation.taken > self.longest:
                        raise TooLarge
                    if on_part is not None:
                        await on_part(part)
                    body += part
                    if not reservation.buffered:
                        del body[:-_SIZE]
                    if reservation.taken >= quick:
                        quick = reservation.taken + _PORTION
                        limit.reschedule(min(last, loop.time() + _PORTION_TIMEOUT))
        except (TimeoutError, ClientDisconnect):
            raise TooSlow from None
        return bytes(body)

    async def unpack(self, packed: bytes, reservation: BodyReservation, *, signed: bool) -> bytes:
        """What a gzip body holds. `signed`: whether its sender is known. TooLarge, BrokenGzip, QueueFull."""
        async with self._unpacking if signed else self._unpacking_strangers:
            plain = await off_loop(len(packed) + self.longest, gunzip, packed, self.longest)
        reservation.take(len(plain))
        return plain


def _announced_length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0  # noqa: PLR2004 - 2**63


async def off_loop(size: int, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do work on so many bytes without blocking the event loop: in a thread, unless it is quick."""
    if size <= SMALL:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def promised_size(packed: bytes) -> int:
    """The unpacked size that a gzip body's last bytes claim; it may be a lie."""
    return int.from_bytes(packed[-_SIZE:], "little")


def gunzip(packed: bytes, longest: int) -> bytes:
    """The unpacked bytes, with never more than `longest` of them in memory; TooLarge, BrokenGzip."""
    plain, members, unpacker = bytearray(), 1, zlib.decompressobj(_GZIP)
    for start in range(0, len(packed), _WINDOW):
        rest = packed[start : start + _WINDOW]
        while rest:
            if unpacker.eof:
                members, unpacker = members + 1, zlib.decompressobj(_GZIP)
            try:
                plain += unpacker.decompress(rest, longest + 1 - len(plain))
            except zlib.error:
                raise BrokenGzip from None
            if len(plain) > longest:
                raise TooLarge
            if members > _MOST_MEMBERS:
                raise BrokenGzip("It is made of too many parts.")
            rest = unpacker.unused_data or unpacker.unconsumed_tail
    if not unpacker.eof:
        raise BrokenGzip
    return bytes(plain)


def is_utf8(body: bytes) -> bool:
    """Whether all of it is UTF-8. It is decoded in parts: as one text it would take up to four times the memory."""
    if body.isascii():
        return True
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(body)
    try:
        for start in range(0, len(body), _WINDOW):
            decoder.decode(bytes(view[start : start + _WINDOW]))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
