"""Passes: one worker's way through all signatures of a petition, again and again until nothing was left to do.

How far it came is not written down. A worker that is killed begins anew, and what is done already is passed over.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from app.kit.clock import now
from app.kit.database.session import Connection
from app.kit.logs import log
from app.signatures.engine import chunks
from app.signatures.engine.chunks import Slice

# Signers' keys are as good as random: a part of their range holds the same part of the signatures.
_SAMPLED = 256
_SAMPLE = "SELECT count(*) FROM signatures WHERE petition_id = $1 AND signer < '\\x01'"

# As long as this a worker does not look at such a rule again: somebody may have sealed it anew by then.
_LET_LIE = timedelta(hours=1)

Job = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Invalidations whose rule no key of this worker opens. They are passed over, so that everything else goes on."""

    let_lie: timedelta = _LET_LIE
    _until: dict[UUID, datetime] = field(default_factory=dict)

    def ids(self) -> Collection[UUID]:
        """Those to pass over now."""
        moment = now()
        for id_ in [id_ for id_, until in self._until.items() if until <= moment]:
            del self._until[id_]
        return list(self._until)

    def note(self, id_: UUID) -> None:
        """Pass this one over for a while."""
        self._until[id_] = now() + self.let_lie
        log.error("the rule of an invalidation cannot be opened", invalidation=str(id_))


@dataclass(slots=True)
class Pass:
    """How far it is, and whether anything was, or is still, to be done."""

    petition_id: UUID
    slice_count: int
    number: int = 0
    unfinished: bool = False

    def part(self) -> Slice:
        """The slice it has come to."""
        return chunks.cut(self.petition_id, self.number, self.slice_count)

    def advance(self, *, unfinished: bool) -> bool:
        """Go on to the next slice; whether a whole pass has just found nothing to do."""
        self.unfinished |= unfinished
        self.number += 1
        if self.number < self.slice_count:
            return False
        done = not self.unfinished
        self.number, self.unfinished = 0, False
        return done


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes one worker is in, by job; and what it passes over."""

    unreadable: Unreadable = field(default_factory=Unreadable)
    _under_way: dict[Job, Pass] = field(default_factory=dict)

    async def of(self, connection: Connection, job: Job, petition_id: UUID) -> Pass:
        """The pass of this job, begun if it is not under way."""
        if job not in self._under_way:
            sampled = await connection.fetchval(_SAMPLE, petition_id)
            self._under_way[job] = Pass(petition_id, chunks.slice_count(sampled * _SAMPLED))
        return self._under_way[job]

    def end(self, job: Job) -> None:
        """The job is done."""
        self._under_way.pop(job, None)
