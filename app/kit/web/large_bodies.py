"""Large bodies, of many mebibytes: read as they were sent and unpacked within bounds, before anybody has looked inside.

Strangers send them too, so what they take up together is bounded, and what takes long is done in a thread.
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
Hear: TypeAlias = Callable[[bytes], Awaitable[object]]

# Seconds for a whole body; and for each further portion of one that is larger than a portion, so that whoever says
# nothing any more does not hold what they have sent for long.
_PATIENCE, _PACE = 30, 5
# Bytes: with it 64 KiB a second is the least that does.
_PORTION = _PACE * 64 * 1024
# Bytes: what is done with less takes no longer than starting a thread. So much of every body is held in any case, as
# of those that are posted elsewhere: a crowd of large ones cannot keep the small ones out.
SMALL = 64 * 1024
_WINDOW = 64 * 1024
# One sender may fill one of so many parts of the room.
_PARTS = 4
# Bodies unpacked at the same time; of those that nobody is known to have signed, one.
_AT_ONCE = 2
# A gzip file is a series of members (RFC 1952, section 2.2), in the field of one or a few. The last four bytes of each
# are its size unpacked.
_MOST_MEMBERS = 64
_GZIP, _SIZE = 16 + zlib.MAX_WBITS, 4


class BrokenGzip(Problem):
    """The body is announced as gzip and is none, or not all of one."""

    slug = "broken-gzip"


class BodyReservation:
    """What one body takes up of what is allowed to all, and to its sender, beyond the first 64 KiB."""

    def __init__(self, room: "LargeBodies") -> None:
        self._room = room
        self._sender: Hashable = None
        self._filled = 0
        self._outlasting: asyncio.Future[Any] | None = None
        self.taken = 0
        self.held = True

    def is_of(self, sender: Hashable, *, held: bool = True) -> None:
        """Say who is said to have sent it, before it is read. What is not `held` is dropped as it comes, and takes up
        nothing but its sender's part."""
        self._sender, self.held = sender, held

    def take(self, size: int) -> None:
        """QueueFull when there is no room for so many bytes."""
        more = max(0, self.taken + size - SMALL) - self._filled
        self._room.fill(self._sender, more, held=self.held)
        self._filled += more
        self.taken += size

    def outlast(self, task: "asyncio.Future[Any]") -> None:
        """The body is held until this has ended, should it go on after the block."""
        self._outlasting = task

    def leave(self) -> None:
        """Give back what was taken, as soon as the body is held by nobody."""
        if self._outlasting is not None and not self._outlasting.done():
            self._outlasting.add_done_callback(lambda _: self._give_back())
        else:
            self._give_back()

    def _give_back(self) -> None:
        self._room.fill(self._sender, -self._filled, held=self.held)
        self._filled = 0


class LargeBodies:
    """One per process."""

    def __init__(self, longest: int, most: int) -> None:
        """`longest`: bytes of one body, unpacked; `most`: bytes of all at the same time, a quarter from one sender."""
        self.longest = longest
        self.most = most
        self.filled = 0
        self._filled_by: dict[Hashable, int] = {}
        self._unpacking = asyncio.Semaphore(_AT_ONCE)
        self._unpacking_strangers = asyncio.Semaphore(1)

    def fill(self, sender: Hashable, size: int, *, held: bool) -> None:
        """Take so many bytes, or give them back; QueueFull."""
        of_sender = self._filled_by.get(sender, 0) + size
        of_all = self.filled + (size if held else 0)
        if size > 0 and (of_all > self.most or of_sender > self.most // _PARTS):
            raise QueueFull
        self.filled = of_all
        self._filled_by[sender] = of_sender
        if not of_sender:
            del self._filled_by[sender]

    @contextmanager
    def share(self) -> Iterator[BodyReservation]:
        """What a body takes while the block lasts."""
        share = BodyReservation(self)
        try:
            yield share
        finally:
            share.leave()

    async def read(self, request: Request, share: BodyReservation, hear: Hear | None = None) -> bytes:
        """The body as it was sent; of one that is not held its last bytes. `hear` is told every part of it.

        TooLarge, TooSlow, QueueFull.
        """
        if _announced(request) > self.longest:
            raise TooLarge
        loop, body, quick = asyncio.get_running_loop(), bytearray(), _PORTION
        try:
            async with asyncio.timeout(_PATIENCE) as limit:
                last = loop.time() + _PATIENCE
                async for part in request.stream():
                    share.take(len(part))
                    if share.taken > self.longest:
                        raise TooLarge
                    if hear is not None:
                        await hear(part)
                    body += part
                    if not share.held:
                        del body[:-_SIZE]
                    if share.taken >= quick:
                        quick = share.taken + _PORTION
                        limit.reschedule(min(last, loop.time() + _PACE))
        except (TimeoutError, ClientDisconnect):
            raise TooSlow from None
        return bytes(body)

    async def unpack(self, packed: bytes, share: BodyReservation, *, signed: bool) -> bytes:
        """What a gzip body holds; `signed`: it is known by whom. TooLarge, BrokenGzip, QueueFull."""
        async with self._unpacking if signed else self._unpacking_strangers:
            plain = await off_loop(len(packed) + self.longest, gunzip, packed, self.longest)
        share.take(len(plain))
        return plain


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0  # noqa: PLR2004 - 2**63


async def off_loop(size: int, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do what goes through so many bytes without keeping others waiting."""
    if size <= SMALL:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def promised_size(packed: bytes) -> int:
    """What the last bytes of a gzip body say of its size unpacked, true or not."""
    return int.from_bytes(packed[-_SIZE:], "little")


def gunzip(packed: bytes, longest: int) -> bytes:
    """What is packed, of `longest` bytes at the most, whatever it would grow to; TooLarge, BrokenGzip."""
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
    """Whether all of it is UTF-8. Looked at in parts: as text it would take up to four times the room."""
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
