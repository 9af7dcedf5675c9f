"""Breakdowns: a petition's tallies by one dimension, for the public and for staff."""

import csv
import io
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database
from app.signatures.dimensions import BY_NAME
from app.signatures.models import SignatureTally
from app.signatures.schemas import DimensionName, TallyRow, TallyView

# Fewer than this many under one key could single somebody out.
SMALLEST_PUBLIC_KEY = 5
OTHER = "other"
# A cell that begins so is a formula to a spreadsheet (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Breakdowns = CoalescingReader[tuple[UUID, DimensionName], TallyView]


async def break_down(session: AsyncSession, petition_id: UUID, by: DimensionName) -> TallyView:
    """The exact tally, largest first (times in order); read in one statement, so its rows sum to its total."""
    key = case((SignatureTally.dimension == "total", None), else_=SignatureTally.key)
    query = (
        select(SignatureTally.dimension, key, func.sum(SignatureTally.signature_count))
        .where(SignatureTally.petition_id == petition_id, SignatureTally.dimension.in_(("total", by)))
        .group_by(SignatureTally.dimension, key)
    )
    rows, total = [], 0
    for dimension, name, summed in await session.execute(query):
        if dimension == "total":
            total = int(summed)
        elif summed:
            rows.append(TallyRow(key=name or None, signature_count=int(summed)))
    return TallyView(by=by, total=total, rows=_ordered(rows, by), as_of=now())


def _ordered(rows: Sequence[TallyRow], by: DimensionName) -> list[TallyRow]:
    if BY_NAME[by].is_time:
        return sorted(rows, key=lambda row: row.key or "")
    return sorted(rows, key=lambda row: (-row.signature_count, row.key or ""))


def fold(view: TallyView) -> TallyView:
    """The same tally for the public: keys of fewer than 5 are added up as `other`; the sum stays the total."""
    shown = [row for row in view.rows if row.signature_count >= SMALLEST_PUBLIC_KEY]
    rest = view.total - sum(row.signature_count for row in shown)
    if rest:
        shown.append(TallyRow(key=OTHER, signature_count=rest))
    return view.model_copy(update={"rows": shown})


def open_breakdowns(database: Database) -> Breakdowns:
    """Public breakdowns, at most five seconds old; one read however many ask."""

    async def read(asked: Sequence[tuple[UUID, DimensionName]]) -> Mapping[tuple[UUID, DimensionName], TallyView]:
        async with database.transaction() as session:
            return {(id_, by): fold(await break_down(session, id_, by)) for id_, by in asked}

    return CoalescingReader(read, seconds=5.0)


def as_csv(view: TallyView) -> str:
    """The rows as CSV, safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([view.by, "signature_count"])
    writer.writerows([_harmless(row.key or ""), row.signature_count] for row in view.rows)
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
