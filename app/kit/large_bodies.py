"""Large bodies, of many mebibytes: read as they were sent and unpacked within bounds, before anybody has looked inside.

Strangers send them too, so what they take up together is bounded, and what takes long is done in a thread.
"""

import asyncio
import codecs
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.kit.batches import QueueFull
from app.kit.bodies import TooLarge, TooSlow
from app.kit.problems import Problem

P = ParamSpec("P")
Result = TypeVar("Result")

# Seconds for a whole body.
_PATIENCE = 30
# Bytes: what is done with less takes no longer than starting a thread.
_SMALL = 64 * 1024
_WINDOW = 64 * 1024
_AT_ONCE = 2
# A gzip file is a series of members (RFC 1952, section 2.2), in the field of one or a few.
_MOST_MEMBERS = 64
_GZIP = 16 + zlib.MAX_WBITS


class BrokenGzip(Problem):
    """The body is announced as gzip and is none, or not all of one."""

    slug = "broken-gzip"


class Share:
    """What one body takes up of what is allowed to all."""

    def __init__(self, room: "LargeBodies") -> None:
        self._room = room
        self.taken = 0

    def take(self, size: int) -> None:
        """QueueFull when there is no room for so many bytes."""
        if self._room.taken + size > self._room.most:
            raise QueueFull
        self._room.taken += size
        self.taken += size


class LargeBodies:
    """One per process."""

    def __init__(self, longest: int, most: int) -> None:
        """`longest`: bytes of one body, unpacked; `most`: bytes of all at the same time."""
        self.longest = longest
        self.most = most
        self.taken = 0
        self._unpacking = asyncio.Semaphore(_AT_ONCE)

    @contextmanager
    def share(self) -> Iterator[Share]:
        """What a body takes while the block lasts."""
        share = Share(self)
        try:
            yield share
        finally:
            self.taken -= share.taken

    async def read(self, request: Request, share: Share) -> bytes:
        """The body as it was sent; TooLarge, TooSlow, QueueFull."""
        if _announced(request) > self.longest:
            raise TooLarge
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(_PATIENCE):
                async for part in request.stream():
                    share.take(len(part))
                    if share.taken > self.longest:
                        raise TooLarge
                    parts.append(part)
        except (TimeoutError, ClientDisconnect):
            raise TooSlow from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def unpack(self, packed: bytes, share: Share) -> bytes:
        """What a gzip body holds; TooLarge, BrokenGzip, QueueFull."""
        async with self._unpacking:
            plain = await off_loop(len(packed) + self.longest, gunzip, packed, self.longest)
        share.take(len(plain))
        return plain


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0  # noqa: PLR2004 - 2**63


async def off_loop(size: int, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do what goes through so many bytes without keeping others waiting."""
    if size <= _SMALL:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


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
