"""A real petition as two CSV files: how its count grew, and from which countries it came."""

import csv
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# Names in the published data that are no ISO 3166-1 codes. BAT: British Antarctic Territory.
RENAMED = {"BAT": "AQ"}


def read_countries(path: Path) -> dict[str, int]:
    """Signatures by ISO code, from a CSV with `country_code` and `signature_count`."""
    counts: dict[str, int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            code = RENAMED.get(row["country_code"], row["country_code"])
            counts[code] = counts.get(code, 0) + int(row["signature_count"])
    return counts


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds since the first observation, and the count at each; both only grow."""

    seconds: list[float]
    counts: list[int]

    @classmethod
    def read(cls, path: Path) -> "Timeline":
        """From a CSV with `observed_at` and `signature_count`."""
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        rows = sorted((datetime.fromisoformat(r["observed_at"]), int(r["signature_count"])) for r in lines)
        highest, counts = 0, []
        for _, count in rows:
            # A published count that went down for a while is no signature withdrawn.
            highest = max(highest, count)
            counts.append(highest)
        return cls([(moment - rows[0][0]).total_seconds() for moment, _ in rows], counts)

    @property
    def length(self) -> float:
        """Seconds from the first observation to the last."""
        return self.seconds[-1]

    def count_at(self, seconds: float) -> int:
        """How many had signed by then, in a straight line between two observations."""
        after = bisect_right(self.seconds, seconds)
        if after == len(self.seconds):
            return self.counts[-1]
        begin, end = self.seconds[after - 1], self.seconds[after]
        share = (seconds - begin) / (end - begin)
        return self.counts[after - 1] + int((self.counts[after] - self.counts[after - 1]) * share)
