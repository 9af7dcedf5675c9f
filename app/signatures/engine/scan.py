"""Scans: a worker goes through all chunks of a petition, again and again, until a whole scan finds nothing to do.

How far a scan has come is not stored. A worker that is killed begins anew; what is done already is passed over quickly.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from app.kit.clock import now
from app.kit.database.session import Connection
from app.kit.logs import log
from app.signatures.engine import chunks
from app.signatures.engine.chunks import Chunk

# Signers' keys are as good as random, so this 256th part of their range holds a 256th part of the signatures.
_SAMPLED = 256
_SAMPLE = "SELECT count(*) FROM signatures WHERE petition_id = $1 AND signer < '\\x01'"

# A worker tries such a rule again after this time: by then somebody may have sealed it anew.
_RETRY_AFTER = timedelta(hours=1)

ScanKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class UnreadableRules:
    """Invalidations whose rule no key of this worker opens. They are passed over, so that they hold nothing up."""

    retry_after: timedelta = _RETRY_AFTER
    _until: dict[UUID, datetime] = field(default_factory=dict)

    def ids(self) -> Collection[UUID]:
        """Those to pass over now."""
        moment = now()
        for id_ in [id_ for id_, until in self._until.items() if until <= moment]:
            del self._until[id_]
        return list(self._until)

    def add(self, id_: UUID) -> None:
        """Pass this one over for a while."""
        self._until[id_] = now() + self.retry_after
        log.error("the rule of an invalidation cannot be opened", invalidation=str(id_))


@dataclass(slots=True)
class Scan:
    """How far one scan has come, and whether it found anything to do, or to wait for."""

    petition_id: UUID
    chunk_count: int
    number: int = 0
    unfinished: bool = False

    def chunk(self) -> Chunk:
        """The chunk whose turn it is."""
        return chunks.chunk_at(self.petition_id, self.number, self.chunk_count)

    def advance(self, *, unfinished: bool) -> bool:
        """Go on to the next chunk; whether a whole scan has just ended without finding anything to do."""
        self.unfinished |= unfinished
        self.number += 1
        if self.number < self.chunk_count:
            return False
        done = not self.unfinished
        self.number, self.unfinished = 0, False
        return done


@dataclass(frozen=True, slots=True)
class ScanProgress:
    """The scans that one worker is in the middle of, and the rules that it passes over."""

    unreadable: UnreadableRules = field(default_factory=UnreadableRules)
    _scans: dict[ScanKey, Scan] = field(default_factory=dict)

    async def scan_of(self, connection: Connection, key: ScanKey, petition_id: UUID) -> Scan:
        """The scan with this key; begun if there is none."""
        if key not in self._scans:
            sampled = await connection.fetchval(_SAMPLE, petition_id)
            self._scans[key] = Scan(petition_id, chunks.chunk_count(sampled * _SAMPLED))
        return self._scans[key]

    def end(self, key: ScanKey) -> None:
        """Nothing is left to do: forget this scan."""
        self._scans.pop(key, None)
