"""Two things measured in turns, so that whatever else the machine does falls on both."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Measure = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Paired:
    """Both medians, and the median of the ratios of neighbours: `first` over `second`."""

    first: float
    second: float
    ratio: float
    lowest: float
    highest: float

    def note(self, first: str, second: str) -> str:
        """The numbers behind the ratio."""
        spread = f"; rounds {self.lowest:.2f}-{self.highest:.2f}" if self.lowest != self.highest else ""
        return f"{first} {self.first:,.0f}/s, {second} {self.second:,.0f}/s{spread}"


def paired(rounds: int, first: Measure, second: Measure) -> Paired:
    """Measure A B, B A, A B, ...: neither is always the one that comes after the other."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            b = second()
            pairs.append((first(), b))
        else:
            a = first()
            pairs.append((a, second()))
    ratios = [a / b for a, b in pairs]
    return Paired(median(a for a, _ in pairs), median(b for _, b in pairs), median(ratios), min(ratios), max(ratios))
