"""Two interleaved samples of times, and whether they can be told apart.

Of each pair both requests are made one right after the other, each first as often as the other, so that whatever else
the machine does happens to both. What is looked at is the median of the pairs' differences, with an interval around it
that makes no assumption about how times are distributed (the order statistics of the sign test): a busy machine widens
it, and moves it nowhere.
"""

import math
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import NamedTuple

import httpx

# At least so many pairs make a sample.
PAIRS = 3000
# Standard deviations: one interval in a thousand misses the true median.
_CONFIDENCE = 3.29

Ask = Callable[[], Awaitable[httpx.Response]]
# Makes the two requests of the pair of this number; what they need is done before the clock runs.
MakePair = Callable[[int], Awaitable[tuple[Ask, Ask]]]


class Comparison(NamedTuple):
    """Seconds: the median of the first sample, and of the differences, second less first, with its interval."""

    pairs: int
    first: float
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        micro = [round(value * 1e6) for value in self[1:]]
        return f"{self.pairs} pairs: {micro[0]} us, the other {micro[1]:+} us ({micro[2]:+} to {micro[3]:+})"

    def is_alike(self, bound: float) -> bool:
        """Whether the median difference is shown to be within this part of the median time."""
        return max(-self.low, self.high) < bound * self.first


async def compare(make_pair: MakePair, pairs: int = PAIRS, *, added: float = 0.0) -> Comparison:
    """Time this many pairs. `added`: seconds by which each second request is made longer, as a control."""
    firsts, differences = [], []
    for number in range(pairs):
        asks = await make_pair(number)
        taken = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            taken[which] = await _timed(asks[which], added if which else 0.0)
        firsts.append(taken[0])
        differences.append(taken[1] - taken[0])
    low, high = _interval(differences)
    return Comparison(pairs, median(firsts), median(differences), low, high)


async def _timed(ask: Ask, added: float) -> float:
    began = time.perf_counter()
    await ask()
    until = time.perf_counter() + added
    while time.perf_counter() < until:
        continue
    return time.perf_counter() - began


def _interval(values: list[float]) -> tuple[float, float]:
    """An interval that holds the median these values come from, whatever their distribution."""
    ordered, reach = sorted(values), math.ceil(_CONFIDENCE * math.sqrt(len(values)) / 2)
    middle = len(ordered) // 2
    return ordered[middle - reach], ordered[middle + reach]
