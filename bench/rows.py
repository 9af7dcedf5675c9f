"""One line of the table: what was measured, and the mark it is held against."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A limit: at least so much, or at most."""

    limit: float
    at_least: bool = True

    def met(self, measured: float) -> bool:
        return measured >= self.limit if self.at_least else measured <= self.limit

    def reached(self, measured: float) -> float:
        """How far the mark is met: 1 is exactly, more is better, whichever way the limit points."""
        if not measured or not self.limit:
            return float(self.met(measured))
        return measured / self.limit if self.at_least else self.limit / measured

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """`measured` is in `unit`; `note` says between what and what. Without a mark it is for information."""

    what: str
    measured: float
    unit: str
    mark: Mark | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.mark is None:
            return ""
        return "ok" if self.mark.met(self.measured) else "MISS"


def at_least(limit: float) -> Mark:
    """A mark from below."""
    return Mark(limit)


def at_most(limit: float) -> Mark:
    """A mark from above."""
    return Mark(limit, at_least=False)
