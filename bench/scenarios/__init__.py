"""What is measured: each scenario is a function that yields rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.rounds import Measure, Paired, paired
from bench.rows import Row
from bench.service import Services
from tests.support.postgres import Cluster


@dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario works with. `say` tells what is being done."""

    cluster: Cluster
    services: Services
    folder: Path
    seconds: float
    rounds: int
    big: int
    say: Callable[[str], None]

    def compare(self, what: str, first: Measure, second: Measure) -> Paired:
        """Warm both up, then measure them in turns."""
        self.say(f"{what}: warming up")
        first()
        second()
        self.say(f"{what}: {self.rounds} rounds of twice {self.seconds:g} s")
        return paired(self.rounds, first, second)


Scenario = Callable[[Bench], Iterator[Row]]
