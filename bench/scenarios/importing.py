"""Bringing in millions of lines from a file."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.rows import Row, at_most
from bench.scenarios import Bench
from bench.servers import resident
from tests.support.postgres import SqlDatabase
from tests.support.services import environment, multitude

_COUNTRIES = ("GB", "FR", "ES", "US", "DE", "UG", "KE")


def write_lines(path: Path, lines: int, say: Callable[[str], None]) -> None:
    """A CSV of that many distinct people."""
    with path.open("w", encoding="utf-8") as file:
        file.write("given_name,family_name,email,country\n")
        for number in range(lines):
            if number % 500_000 == 0:
                say(f"writing {lines:,} lines: {number:,} so far")
            file.write(f"Amina,Okello,person.{number}@example.org,{_COUNTRIES[number % 7]}\n")


def _import(bench: Bench, database: SqlDatabase, path: Path) -> tuple[float, float]:
    """(seconds, highest resident memory of the importing processes together, in MiB)."""
    began, highest = time.monotonic(), 0.0
    process = subprocess.Popen(
        multitude("import", "signatures", str(path), "--petition", "p0", "--json"),
        env=environment(**bench.services.settings(database)),
        cwd=bench.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            highest = max(highest, sum(resident(process.pid)))
            bench.say(f"importing for {time.monotonic() - began:.0f} s, {highest:.0f} MiB at the most")
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the import ended with status {process.returncode}")
    return time.monotonic() - began, highest


def importing(bench: Bench) -> Iterator[Row]:
    """`multitude import signatures`, from CSV."""
    path = bench.folder / "signatures.csv"
    write_lines(path, bench.big, bench.say)
    with bench.services.database("imported") as database:
        seconds, highest = _import(bench, database, path)
        path.unlink()
        rows = database.value("SELECT count(*) FROM signatures")
        size = database.value("SELECT pg_total_relation_size('signatures')")
    what = f"import of {bench.big:,} lines"
    yield Row(f"{what}: memory", highest, "MiB", at_most(150), f"{rows:,} rows are there")
    yield Row(f"{what}: lines per second", bench.big / seconds, "/s", None, f"{seconds:,.0f} s")
    yield Row("bytes per imported signature, indexes included", size / rows, "bytes", at_most(350))
