"""Passes: one worker's way through all signatures of a petition, again and again until nothing was left to do.

How far it came is not written down. A worker that is killed begins anew, and what is done already is passed over.
"""

from dataclasses import dataclass, field
from uuid import UUID

from app.kit.db import Connection
from app.signatures import slices
from app.signatures.slices import Slice

# Signers' keys are as good as random: a part of their range holds the same part of the signatures.
_SAMPLED = 256
_SAMPLE = "SELECT count(*) FROM signatures WHERE petition_id = $1 AND signer < '\\x01'"

Job = tuple[object, ...]


@dataclass(slots=True)
class Pass:
    """How far it is, and whether anything was, or is still, to be done."""

    petition_id: UUID
    slice_count: int
    number: int = 0
    unfinished: bool = False

    def part(self) -> Slice:
        """The slice it has come to."""
        return slices.cut(self.petition_id, self.number, self.slice_count)

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
    """The passes one worker is in, by job."""

    _under_way: dict[Job, Pass] = field(default_factory=dict)

    async def of(self, connection: Connection, job: Job, petition_id: UUID) -> Pass:
        """The pass of this job, begun if it is not under way."""
        if job not in self._under_way:
            sampled = await connection.fetchval(_SAMPLE, petition_id)
            self._under_way[job] = Pass(petition_id, slices.slice_count(sampled * _SAMPLED))
        return self._under_way[job]

    def end(self, job: Job) -> None:
        """The job is done."""
        self._under_way.pop(job, None)
