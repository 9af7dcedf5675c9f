"""The service's tallies beside the source's: for the terminal, for a file, and as a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.table import Table

from bench.report import OUT
from bench.source import Timeline

_SHOWN = 15


@dataclass(frozen=True, slots=True)
class Compared:
    """Signatures by country: expected and counted."""

    expected: Mapping[str, int]
    counted: Mapping[str, int]

    @property
    def wrong(self) -> list[str]:
        """Countries whose tally is not what it should be, those included that should not be there."""
        codes = self.expected.keys() | self.counted.keys()
        return sorted(code for code in codes if self.expected.get(code, 0) != self.counted.get(code, 0))

    @property
    def exact(self) -> int:
        """How many of the expected countries are exact."""
        return len(self.expected) - len(set(self.wrong) & self.expected.keys())


def by_country(url: str, key: str, petition: str) -> dict[str, int]:
    """The tally as staff see it: nothing is folded into `other`."""
    answer = httpx.get(
        f"{url}/v1/petitions/{petition}/tally",
        params={"by": "country"},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        trust_env=False,
    )
    answer.raise_for_status()
    return {row["key"]: row["signature_count"] for row in answer.json()["rows"]}


def table(compared: Compared) -> Table:
    """The largest countries, those that are wrong, and the sum."""
    drawn = Table(title="Signatures by country")
    drawn.add_column("country")
    for name in ("source", "counted", "difference"):
        drawn.add_column(name, justify="right")
    largest = sorted(compared.expected, key=lambda code: -compared.expected[code])[:_SHOWN]
    for code in (*largest, *(code for code in compared.wrong if code not in largest)):
        _add(drawn, code, compared.expected.get(code, 0), compared.counted.get(code, 0))
    drawn.add_section()
    _add(drawn, "all", sum(compared.expected.values()), sum(compared.counted.values()))
    return drawn


def _add(drawn: Table, name: str, expected: int, counted: int) -> None:
    difference = counted - expected
    drawn.add_row(name, f"{expected:,}", f"{counted:,}", "" if difference == 0 else f"[red]{difference:+,}[/]")


def write_plot(seen: list[tuple[float, int]], limit: int, pace: tuple[Timeline, float] | None) -> Path:
    """The count as it was seen, over seconds; and as it should have been, when there was a pace."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    axes.plot([s for s, _ in seen], [c for _, c in seen], label="count of the service")
    if pace:
        timeline, factor = pace
        points = [(s / factor, min(c, limit)) for s, c in zip(timeline.seconds, timeline.counts, strict=True)]
        inside = [(s, c) for s, c in points if seen and s <= seen[-1][0]]
        axes.plot([s for s, _ in inside], [c for _, c in inside], linestyle=":", label="source")
    axes.set_xlabel("seconds")
    axes.set_ylabel("signatures")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    OUT.mkdir(exist_ok=True)
    path = OUT / "replay.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
