"""How fast the worker sends what is due, and that everybody gets one mail."""

from collections.abc import Iterator

from app.kit.crypto.sealing import KeyRing
from bench.pending import address, plant_due
from bench.rows import Row, at_least, at_most
from bench.scenarios import Bench
from bench.sink import sinking
from bench.workers import watch, working

_MAILS = 20_000
_WAITING = """
    SELECT count(*) FROM signatures
    WHERE state <> 'pending' OR mail_due_at IS NOT NULL OR due_mail IS NOT NULL OR mail_count IS DISTINCT FROM 1
"""


def mails(bench: Bench) -> Iterator[Row]:
    """`multitude worker` hands mails to a server on the same machine, over as many connections as it opens."""
    with bench.services.database("mails") as database, sinking(bench.folder / "mails.txt") as sink:
        plant_due(database, KeyRing.parse(bench.services.secret), _MAILS, bench.say)
        with working(bench, database, SMTP_URL=sink.url) as worker:
            highest = watch(bench, worker, sink.count, _MAILS, "mails")
        if worker.returncode:
            raise RuntimeError(f"the worker ended with status {worker.returncode}")
        unrecorded = database.value(_WAITING)
    got = sink.mails()
    wrong = sum(got[address(number)] != 1 for number in range(_MAILS)) + len(
        got.keys() - set(map(address, range(_MAILS)))
    )
    note = f"{got.total():,} mails in five languages; the worker took {highest:.0f} MiB at the most"
    yield Row("mails a second, worker to a local SMTP server", sink.per_second(), "/s", at_least(500), note)
    note = f"{_MAILS:,} recipients; {unrecorded} signatures on which it was not written down"
    yield Row("recipients that got no mail, or more than one", wrong + unrecorded, "", at_most(0), note)
