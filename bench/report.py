"""A run's table on the terminal, its numbers as JSON, and a picture of the marks."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from bench.rows import Row

OUT = Path(__file__).parent / "out"
_COLOURS = {"ok": "green", "MISS": "red", "": "dim"}


def measured(row: Row) -> str:
    """The number, as precisely as it means something."""
    digits = 2 if abs(row.measured) < 100 and row.measured != int(row.measured) else 0
    return f"{row.measured:,.{digits}f} {row.unit}".strip()


def line(row: Row) -> str:
    """One row, as soon as it is known."""
    mark = f"({row.mark})" if row.mark else ""
    return f"{row.verdict or '-':4} {row.what}: {measured(row)} {mark} [dim]{row.note}[/]"


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    drawn = Table(title="Measured on this machine, side by side", title_justify="left")
    for name, justify in (("what", "left"), ("measured", "right"), ("mark", "right"), ("", "left")):
        drawn.add_column(name, justify=justify)  # type: ignore[arg-type]
    drawn.add_column("between", style="dim")
    for row in rows:
        verdict = f"[{_COLOURS[row.verdict]}]{row.verdict}[/]" if row.verdict else ""
        drawn.add_row(row.what, measured(row), str(row.mark or ""), verdict, row.note)
    return drawn


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    return {
        "processors": os.cpu_count() or 0,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def write_json(name: str, rows: Sequence[Row], facts: Mapping[str, object]) -> Path:
    """The rows and whatever else is worth keeping, in `bench/out/`."""
    OUT.mkdir(exist_ok=True)
    told = [asdict(row) | {"mark": str(row.mark or ""), "verdict": row.verdict} for row in rows]
    whole = {"measured_at": datetime.now(UTC).isoformat(), "machine": machine(), **facts, "rows": told}
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return path


def write_plot(rows: Sequence[Row]) -> Path:
    """How far each mark is met: to the right of 1 it is."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    marked = [row for row in reversed(rows) if row.mark is not None and row.mark.limit]
    figure, axes = plt.subplots(figsize=(11, 1 + 0.4 * len(marked)))
    reached = [row.mark.reached(row.measured) for row in marked if row.mark]
    colours = ["#2e7d32" if row.verdict == "ok" else "#c62828" for row in marked]
    bars = axes.barh([row.what for row in marked], reached, color=colours)
    axes.bar_label(bars, [f"{measured(row)}  ({row.mark})" for row in marked], padding=4, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, max([1.0, *reached]) * 1.3)
    axes.set_xlabel("times the mark")
    figure.tight_layout()
    OUT.mkdir(exist_ok=True)
    path = OUT / "bench.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
