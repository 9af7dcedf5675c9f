"""What a signature takes on disk."""

from collections.abc import Iterator

from bench import load
from bench.rows import Row, at_most
from bench.scenarios import Bench


def size(bench: Bench) -> Iterator[Row]:
    """People sign one petition over HTTP; then the table, its index and all, is divided by its rows."""
    with bench.services.running("size", workers=2) as ours:
        for _ in range(bench.rounds):
            bench.say(f"signing for {bench.seconds:g} s")
            load.sign(ours.url, connections=256, seconds=bench.seconds)
        rows = ours.database.value("SELECT count(*) FROM signatures")
        everything = ours.database.value("SELECT pg_total_relation_size('signatures')")
        index = ours.database.value("SELECT pg_indexes_size('signatures')")
    note = f"{rows:,} rows, {index / rows:.0f} bytes of it indexes"
    yield Row("bytes per signature, indexes included", everything / rows, "bytes", at_most(350), note)


def verify(bench: Bench) -> Iterator[Row]:
    """`multitude tally verify` after two processes were signed at once on many petitions."""
    with bench.services.running("verified", workers=2) as ours:
        bench.say(f"signing for {bench.seconds:g} s")
        load.sign(ours.url, connections=256, seconds=bench.seconds, petition="p", spread=100)
        rows = ours.database.value("SELECT count(*) FROM signatures")
        bench.services.call(ours.database, "tally", "verify", "--json")
    yield Row("tallies that differ from a recount", 0, "", at_most(0), f"{rows:,} signatures on 100 petitions")
