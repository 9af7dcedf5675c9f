"""Importing signatures from a file: CSV or NDJSON of any size, in flat memory, repeatable.

A line is treated like any signature: validated, digested, sealed, and inserted in a batch together with its tallies.
The unique key makes a second run harmless; a person who has withdrawn since then stays withdrawn.
"""

import asyncio
import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, TextIO

from pydantic import ValidationError

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.problems import OperatorError, Problem, details_of, errors_of
from app.people.consents.policy import ConsentPolicy, check
from app.petitions.directory import Entry
from app.signatures.engine import insert
from app.signatures.engine.lanes import Lane
from app.signatures.engine.signings import Origin, Outcome, Signing
from app.signatures.schemas import ImportedSigning
from app.signatures.signing.prepare import prepare

BATCH = 2000
_LONGEST_LINE = 1024 * 1024
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_NOBODY: Mapping[str, ConsentPolicy] = MappingProxyType({})
CSV_COLUMNS = frozenset(ImportedSigning.model_fields) - {"consents"}


class UnreadableFileError(OperatorError):
    """The file cannot be imported at all; the message says why."""


class Line(NamedTuple):
    """One line of the file: a signature, or the reason why it is refused."""

    number: int
    body: ImportedSigning | None
    reason: str = ""


@dataclass(slots=True)
class Summary:
    """What an import did. `duplicate`: people who had signed before, in the file or on the petition."""

    read: int = 0
    counted: int = 0
    duplicate: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def read_lines(path: Path, advance: Callable[[int], None]) -> Iterator[Line]:
    """The file's lines; `advance` is told the position in bytes. UnreadableFileError when it is neither format."""
    with path.open("rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.seek(0)
        if not start:
            raise UnreadableFileError("The file is empty.")
        yield from _ndjson(file, advance) if start.startswith(b"{") else _csv(file, advance)


def _ndjson(file: BinaryIO, advance: Callable[[int], None]) -> Iterator[Line]:
    number = 0
    while text := file.readline(_LONGEST_LINE):
        number += 1
        advance(file.tell())
        if not text.endswith(b"\n") and len(text) == _LONGEST_LINE:
            while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield Line(number, None, "is longer than 1 MiB")
        elif text.strip(b"\xef\xbb\xbf \t\r\n"):
            yield _line(number, ImportedSigning.model_validate_json, text.removeprefix(b"\xef\xbb\xbf"))


def _csv(file: BinaryIO, advance: Callable[[int], None]) -> Iterator[Line]:
    reader = csv.DictReader(_decoded(file), restkey="_more")
    try:
        columns = set(reader.fieldnames or [])
    except csv.Error:
        raise UnreadableFileError("The file is neither CSV nor NDJSON.") from None
    required = {name for name, info in ImportedSigning.model_fields.items() if info.is_required()}
    if missing := sorted(required - columns):
        raise UnreadableFileError(f"The first line must name the columns; missing: {', '.join(missing)}.")
    if len(columns - CSV_COLUMNS) > 0:
        raise UnreadableFileError(f"Only these columns can be imported: {', '.join(sorted(CSV_COLUMNS))}.")
    while True:
        before = reader.reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            line = Line(reader.reader.line_num, None, "is not valid CSV")
        else:
            line = _line(reader.line_num, ImportedSigning.model_validate, _cells(row))
        advance(file.tell())
        yield _with_extent(line, before + 1)


def _with_extent(line: Line, first: int) -> Line:
    """An unclosed quotation mark makes one row of several lines: say which lines were refused together."""
    if line.body is not None or line.number == first:
        return line
    return line._replace(reason=f"{line.reason} (lines {first} to {line.number}, read as one)")


def _decoded(file: BinaryIO) -> Iterator[str]:
    # Bytes that are not UTF-8 become lone surrogates, for which validation refuses this one line.
    # A longer line is read in pieces, which the parser refuses as too large a field: memory stays flat.
    while text := file.readline(_LONGEST_LINE):
        yield text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    return {name: cell for name, cell in row.items() if cell not in {"", None}} if "_more" not in row else {}


def _line(number: int, read: Callable[[Any], ImportedSigning], given: object) -> Line:
    try:
        body = read(given)
    except ValidationError as error:
        wrong = errors_of(details_of(error))
        return Line(number, None, "; ".join(": ".join(filter(None, (e["at"], e["message"]))) for e in wrong))
    if body.signed_at and not _EARLIEST <= body.signed_at <= now():
        return Line(number, None, "signed_at: is in the future, or before 1990")
    return Line(number, body)


class Import:
    """One run of an import: prepares a batch while the one before it is being committed."""

    def __init__(
        self,
        lane: Lane,
        ring: KeyRing,
        petition: Entry,
        refused: TextIO,
        asked: Mapping[str, ConsentPolicy] = _NOBODY,
    ) -> None:
        """`asked`: the organizations that consents may name."""
        self._lane = lane
        self._asked = asked
        self._ring = ring
        self._petition = petition
        self._refused = csv.writer(refused)
        self._refused.writerow(["line", "reason"])
        self.summary = Summary()

    async def run(self, lines: Iterator[Line]) -> Summary:
        """Import every line; what was committed stays, whenever the run ends."""
        committing: asyncio.Task[None] | None = None
        for batch in self._batches(lines):
            if committing is not None:
                await committing
            committing = asyncio.create_task(self._commit(batch))
            # Let it send its first statement, so that PostgreSQL works while the next batch is prepared.
            await asyncio.sleep(0)
        if committing is not None:
            await committing
        return self.summary

    def _batches(self, lines: Iterator[Line]) -> Iterator[list[tuple[int, Signing]]]:
        batch: list[tuple[int, Signing]] = []
        for line in lines:
            self.summary.read += 1
            reason = line.reason if line.body is None else self._refusal_of(line.body)
            if line.body is None or reason:
                self._refuse(line.number, reason)
                continue
            signed_at, clear_text = line.body.signed_at or now(), self._petition.clear_text
            signing = prepare(self._ring, self._petition.id, line.body, signed_at, clear_text=clear_text)
            batch.append((line.number, signing))
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch

    def _refusal_of(self, body: ImportedSigning) -> str:
        """The reason to refuse the consents of a line; empty if there is none."""
        try:
            check(self._asked, body.consents)
        except Problem as problem:
            return f"consents: {problem.title()}"
        return ""

    async def _commit(self, batch: list[tuple[int, Signing]]) -> None:
        if not batch:
            return
        committed = await insert.sign(self._lane, [signing for _, signing in batch], Origin.IMPORT)
        for (number, _), outcome in zip(batch, committed.outcomes, strict=True):
            if outcome is Outcome.COUNTED:
                self.summary.counted += 1
            elif outcome is Outcome.REFUSED:
                self._refuse(number, "the petition is not open, or not to this country")
            else:
                self.summary.duplicate += 1

    def _refuse(self, number: int, reason: str) -> None:
        self.summary.refused += 1
        self._refused.writerow([number, reason])
