"""How fast people sign, next to what else could be done with the same requests."""

from collections.abc import Iterator
from functools import partial

from bench import load
from bench.rows import Row, at_least
from bench.scenarios import Bench
from bench.servers import compared, running
from bench.service import MAILED, PETITIONS
from tests.support.postgres import SqlDatabase


def rate(url: str, bench: Bench, connections: int, petition: str = "p0", spread: int = 1) -> float:
    """Signatures a second; an error when anybody was refused."""
    measured = load.sign(url, connections=connections, seconds=bench.seconds, petition=petition, spread=spread)
    if measured.refused or measured.socket_errors:
        raise RuntimeError(f"{measured.refused} refused, {measured.socket_errors} socket errors at {url}")
    return measured.per_second


def nothing(bench: Bench) -> Iterator[Row]:
    """Ours against an endpoint that validates the same body and does nothing, one process each."""
    idle = compared("nothing", ready="/nothing")
    with bench.services.running("nothing") as ours, running(idle):
        for connections in (64, 256):
            what = f"signing / an endpoint that does nothing, {connections} connections"
            pair = bench.compare(
                what, partial(rate, ours.url, bench, connections), partial(rate, idle.url, bench, connections)
            )
            yield Row(what, pair.ratio, "x", at_least(1.0), pair.note("ours", "nothing"))


def textbook(bench: Bench) -> Iterator[Row]:
    """Ours against ORM insert + `count = count + 1`, one process each."""
    with bench.cluster.fresh("textbook") as database, bench.services.running("ours") as ours:
        other = compared("textbook", ready="/openapi.json", DATABASE_URL=database.url)
        with running(other):
            for connections in (64, 256):
                what = f"signing / the textbook, {connections} connections"
                pair = bench.compare(
                    what,
                    partial(rate, ours.url, bench, connections),
                    partial(rate, other.url, bench, connections),
                )
                yield Row(what, pair.ratio, "x", at_least(20), pair.note("ours", "textbook"))


def mailed(bench: Bench) -> Iterator[Row]:
    """What it costs a signer that a mail will be due. No worker runs: all mails wait."""
    with bench.services.running("mailed") as ours:
        for connections in (64, 256):
            what = f'signing with confirmation "email" / "none", {connections} connections'
            pair = bench.compare(
                what,
                partial(rate, ours.url, bench, connections, petition=MAILED),
                partial(rate, ours.url, bench, connections),
            )
            yield Row(what, pair.ratio, "x", at_least(0.95), pair.note("email", "none"))
        _check_all_wait(ours.database)


def _check_all_wait(database: SqlDatabase) -> None:
    """An error unless everybody who signed there is pending, with a mail due, and no tally knows of them."""
    waiting, everybody = database.rows(
        "SELECT count(*) FILTER (WHERE state = 'pending' AND mail_due_at <= now() AND due_mail = 'confirm_signature'),"
        " count(*) FROM signatures WHERE petition_id = (SELECT id FROM petitions WHERE slug = $1)",
        MAILED,
    )[0]
    tallied = database.value(
        "SELECT coalesce(sum(signature_count), 0)::bigint FROM signature_tallies"
        " WHERE petition_id = (SELECT id FROM petitions WHERE slug = $1)",
        MAILED,
    )
    if not waiting or waiting != everybody or tallied:
        raise RuntimeError(f"{waiting} of {everybody} wait for their mail, and tallies know of {tallied}")


def processes(bench: Bench) -> Iterator[Row]:
    """Two processes against one. The machine's cores are shared with PostgreSQL and the load generator."""
    with bench.services.running("one") as one, bench.services.running("two", workers=2) as two:
        for connections in (64, 256):
            what = f"signing with 2 processes / 1, {connections} connections"
            pair = bench.compare(
                what, partial(rate, two.url, bench, connections), partial(rate, one.url, bench, connections)
            )
            yield Row(what, pair.ratio, "x", None, pair.note("2", "1"))


def spread(bench: Bench) -> Iterator[Row]:
    """Each batch carries many petitions, each with statements and tallies of its own."""
    with bench.services.running("spread") as ours:
        for connections in (64, 256):
            what = f"signing {PETITIONS:,} petitions in turn / one, {connections} connections"
            pair = bench.compare(
                what,
                partial(rate, ours.url, bench, connections, petition="p", spread=PETITIONS),
                partial(rate, ours.url, bench, connections),
            )
            yield Row(what, pair.ratio, "x", at_least(0.5), pair.note(f"{PETITIONS:,}", "1"))


def latency(bench: Bench) -> Iterator[Row]:
    """What a slow disk or a synchronous standby costs when a commit is shared by as many as wait for it."""
    what = "signing with 5 ms of commit latency / without, 2 processes, 1,024 connections"
    with bench.services.running("latency", workers=2) as ours:
        measure = partial(rate, ours.url, bench, 1024)

        def slowly() -> float:
            with bench.cluster.commit_latency(5):
                return measure()

        pair = bench.compare(what, slowly, measure)
    yield Row(what, pair.ratio, "x", at_least(0.9), pair.note("5 ms", "0 ms"))
