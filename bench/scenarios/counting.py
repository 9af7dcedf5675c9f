"""How fast people can look at the count while others sign."""

from collections.abc import Iterator
from functools import partial

from bench import load
from bench.background import signing
from bench.rows import Row, at_least
from bench.scenarios import Bench
from bench.servers import compared, running

# Five times the steepest stretch of the petition that took a parliament's site down (5,742 a minute).
SIGNERS_PER_SECOND = 500
_CONNECTIONS = 64


def reads(url: str, bench: Bench) -> float:
    """Answers a second to one GET; an error when any was refused."""
    measured = load.get(url, connections=_CONNECTIONS, seconds=bench.seconds)
    if measured.refused or measured.socket_errors:
        raise RuntimeError(f"{measured.refused} refused, {measured.socket_errors} socket errors at {url}")
    return measured.per_second


def reads_while_signing(server: str, petition: str, bench: Bench) -> float:
    """The same for one petition's count, while people sign that petition."""
    with signing(server, petition, SIGNERS_PER_SECOND):
        return reads(f"{server}/v1/petitions/{petition}/count", bench)


def count(bench: Bench) -> Iterator[Row]:
    """GET count against a GET that does nothing, in a process that has nothing else to do either.

    The same people sign our server throughout, so the machine is as busy for one as for the other.
    """
    what = f"GET count / a GET that does nothing, while {SIGNERS_PER_SECOND}/s sign"
    idle = compared("nothing", ready="/nothing")
    with (
        bench.services.running("counted") as ours,
        running(idle),
        signing(ours.url, "p0", SIGNERS_PER_SECOND),
    ):
        pair = bench.compare(
            what,
            partial(reads, f"{ours.url}/v1/petitions/p0/count", bench),
            partial(reads, f"{idle.url}/nothing", bench),
        )
    yield Row(what, pair.ratio, "x", at_least(1.0), pair.note("count", "nothing"))
