"""How fast the worker sends what is due, and that everybody gets one mail."""

import contextlib
import subprocess
import time
from collections.abc import Iterator

from app.kit.sealing import KeyRing
from bench.pending import address, plant_due
from bench.postgres import Database
from bench.rows import Row, at_least, at_most
from bench.scenarios import Bench
from bench.servers import command, environment, resident
from bench.sink import Sink, sinking

_MAILS = 20_000
# Seconds without a mail after which no more are expected, and seconds the worker has to end.
_SILENCE, _PATIENCE = 20.0, 60.0
_WAITING = """
    SELECT count(*) FROM signatures
    WHERE state <> 'pending' OR mail_due_at IS NOT NULL OR due_mail IS NOT NULL OR mail_count IS DISTINCT FROM 1
"""


def mails(bench: Bench) -> Iterator[Row]:
    """`multitude worker` hands mails to a server on the same machine, over as many connections as it opens."""
    with bench.services.database("mails") as database, sinking(bench.folder / "mails.txt") as sink:
        plant_due(database, KeyRing.parse(bench.services.secret), _MAILS, bench.say)
        with _working(bench, database, sink) as worker:
            highest = _watch(bench, sink, worker)
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


@contextlib.contextmanager
def _working(bench: Bench, database: Database, sink: Sink) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for as long as the block lasts; it has ended in good order, or its status says otherwise."""
    settings = bench.services.settings(database) | {"SMTP_URL": sink.url}
    with (bench.folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            command("worker"), env=environment(**settings), cwd=bench.folder, stdout=log, stderr=log
        )
    try:
        yield worker
        worker.terminate()
        worker.wait(_PATIENCE)
    finally:
        worker.kill()
        worker.wait()


def _watch(bench: Bench, sink: Sink, worker: subprocess.Popen[bytes]) -> float:
    """Wait until all mails are there, or none has come for a while; the worker's highest resident memory, in MiB."""
    sent, highest, silent_at = 0, 0.0, time.monotonic() + _SILENCE
    while sent < _MAILS and time.monotonic() < silent_at and worker.poll() is None:
        time.sleep(0.1)
        highest = max(highest, sum(resident(worker.pid)))
        if (count := sink.count()) != sent:
            sent, silent_at = count, time.monotonic() + _SILENCE
            bench.say(f"{sent:,} of {_MAILS:,} mails are there")
    return highest
