"""Whether a petition gets slower as it grows."""

from collections.abc import Iterator
from functools import partial
from itertools import count

from bench.bigness import fill
from bench.rows import Row, at_least
from bench.scenarios import Bench
from bench.scenarios.counting import SIGNERS_PER_SECOND, reads_while_signing
from bench.scenarios.signing import rate

_SMALL = 10_000


def big(bench: Bench) -> Iterator[Row]:
    """One petition of millions, one of ten thousand, and one without a signature before each measurement."""
    with bench.services.database("big") as database:
        fill(database, "p0", bench.big, bench.say)
        fill(database, "p1", _SMALL, bench.say)
        server = bench.services.server(database)
        try:
            server.start()
            yield _count(bench, server.url)
            yield _sign(bench, server.url)
            server.stop()
        finally:
            server.kill()


def _count(bench: Bench, url: str) -> Row:
    what = f"GET count at {bench.big:,} signatures / at {_SMALL:,}, while {SIGNERS_PER_SECOND}/s sign it"
    pair = bench.compare(
        what, partial(reads_while_signing, url, "p0", bench), partial(reads_while_signing, url, "p1", bench)
    )
    return Row(what, pair.ratio, "x", at_least(0.95), pair.note(f"{bench.big:,}", f"{_SMALL:,}"))


def _sign(bench: Bench, url: str) -> Row:
    what = f"signing a petition of {bench.big:,} / an empty one, 64 connections"
    empty = count(2)
    pair = bench.compare(
        what,
        partial(rate, url, bench, 64, petition="p0"),
        lambda: rate(url, bench, 64, petition=f"p{next(empty)}"),
    )
    return Row(what, pair.ratio, "x", at_least(0.85), pair.note(f"{bench.big:,}", "empty"))
