"""Breakdowns: a petition's tallies by one dimension, exact, folded, and as CSV."""

import csv
import io
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.signatures.dimensions import BY_NAME
from app.signatures.models import SignatureTally
from app.signatures.reading.disclosure import OTHER, SMALLEST_PUBLIC_KEY
from app.signatures.schemas import DimensionName, TallyRow, TallyView

# A cell that begins so is a formula to a spreadsheet (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
    return TallyView(by=by, total=total, rows=ordered(rows, by), as_of=now())


def ordered(rows: Sequence[TallyRow], by: DimensionName) -> list[TallyRow]:
    """Times in order, anything else the largest first."""
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


def as_csv(view: TallyView) -> str:
    """The rows as CSV, safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([view.by, "signature_count"])
    writer.writerows([_harmless(row.key or ""), row.signature_count] for row in view.rows)
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
