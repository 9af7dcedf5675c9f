"""`python -m bench.replay`: a real petition again, over HTTP, from its timeline and its countries.

Distinct people, each country its true share, at the real pace times a factor or flat out; at the end every country's
tally is compared with the source. This process is the load generator and does nothing else meanwhile: the server has
its own processes, and a bare protocol (`bench/wire.py`) needs less time for a request than the service does.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import comparing, report
from bench.comparing import Compared, by_country
from bench.people import Requests, Shares
from bench.replaying import Replay, Watch, run
from bench.rows import Row, at_least, at_most
from bench.service import Services, open_petition
from bench.source import RENAMED, Timeline, read_countries
from bench.stage import stage
from tests.support.postgres import SqlDatabase
from tests.support.services import multitude

_told = Console(stderr=True)
_SHOW_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to sign at; and, when it is our own, what to look into afterwards."""

    url: str
    key: str
    petition: str
    services: Services | None = None
    database: SqlDatabase | None = None

    def verified(self) -> bool | None:
        """Whether `multitude tally verify` agrees; None when there is no database to ask."""
        if self.services and self.database:
            with contextlib.suppress(RuntimeError):
                self.services.call(self.database, "tally", "verify", "--json")
                return True
            return False
        if "DATABASE_URL" not in os.environ:
            return None
        return subprocess.run(multitude("tally", "verify", "--json"), check=False).returncode == 0


def main(
    timeline: Annotated[Path, typer.Option(help="CSV: observed_at, signature_count.", exists=True)],
    countries: Annotated[Path, typer.Option(help="CSV: country_code, signature_count.", exists=True)],
    factor: Annotated[float, typer.Option(min=0.001, help="Times the real pace.")] = 60,
    flat_out: Annotated[bool, typer.Option("--flat-out", help="As fast as they are answered.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many people.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the server that is started.")] = 2,
    connections: Annotated[int, typer.Option(min=1, help="One request at a time on each.")] = 256,
    url: Annotated[str | None, typer.Option(help="A running service, not one of our own.")] = None,
    key: Annotated[str | None, typer.Option(help="An owner's key of that service.")] = None,
) -> None:
    """Replay, compare every country, write `bench/out/replay.json` and `bench/out/replay.png`."""
    source = read_countries(countries)
    for name, code in RENAMED.items():
        _told.print(f"{name} is no ISO 3166-1 code: its signatures are counted under {code}.")
    pace = None if flat_out else (Timeline.read(timeline), factor)
    with _running_at(url, key) if url and key else _own(workers) as target:
        replay = Replay(Requests(target.petition, "signer"), Shares(source), limit or sum(source.values()))
        replay.limit = min(replay.limit, replay.shares.total)
        watch = Watch(target.petition)
        seconds = _replay(replay, watch, target, connections, pace)
        expected = source if replay.limit == replay.shares.total else _first(replay)
        compared = Compared(expected, by_country(target.url, target.key, target.petition))
        rows = _rows(replay, compared, seconds, target)
    _tell(replay, compared, rows, watch, pace)


@contextlib.contextmanager
def _own(workers: int) -> Iterator[Target]:
    _told.print(f"Starting PostgreSQL and the service ({workers} processes)")
    with stage() as (_, services, _), services.running("replay", workers) as service:
        yield Target(service.url, service.key, "p0", services, service.database)


@contextlib.contextmanager
def _running_at(url: str, key: str) -> Iterator[Target]:
    slug = f"replay-{int(time.time())}"
    open_petition(url, key, slug)
    yield Target(url, key, slug)


def _first(replay: Replay) -> dict[str, int]:
    """What the first `limit` people were given as countries."""
    return {code.decode(): count for code, count in replay.by_country.items()}


def _replay(
    replay: Replay, watch: Watch, target: Target, connections: int, pace: tuple[Timeline, float] | None
) -> float:
    columns = (TextColumn("signed"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=_told) as progress:
        task = progress.add_task("", total=replay.limit, rate="")
        began = shown = time.monotonic()

        def tell(now: Replay) -> None:
            nonlocal shown
            moment = time.monotonic()
            if moment - shown >= _SHOW_SECONDS:
                shown = moment
                rate = f"{now.acknowledged / (moment - began):,.0f}/s, {now.busy:,} told to come back"
                progress.update(task, completed=now.acknowledged, rate=rate)

        seconds = uvloop.run(run(replay, watch, target.url, connections, pace, tell))
        progress.update(task, completed=replay.acknowledged)
    return seconds


def _rows(replay: Replay, compared: Compared, seconds: float, target: Target) -> list[Row]:
    whole = replay.limit == replay.shares.total
    minutes = at_most(15) if whole else None
    people = f"{replay.acknowledged:,} people"
    exact = at_least(len(compared.expected))
    rows = [
        Row("replay over HTTP", seconds / 60, "minutes", minutes, people),
        Row("signatures per second", replay.acknowledged / seconds, "/s"),
        Row("countries exact", compared.exact, f"of {len(compared.expected)}", exact, ", ".join(compared.wrong)),
        Row("refused", replay.refused.total(), "", at_most(0), "; ".join(replay.refused)[:200]),
        Row("told to come back (503), and came", replay.busy, ""),
        Row("connections lost while waiting, and asked again", replay.lost, ""),
    ]
    verified = target.verified()
    if verified is not None:
        rows.append(Row("`tally verify` agrees (1 is yes)", float(verified), "", at_least(1)))
    if target.database:
        size = target.database.value("SELECT pg_total_relation_size('signatures')")
        rows.append(Row("bytes per signature, indexes included", size / replay.acknowledged, "bytes", at_most(350)))
    return rows


def _tell(
    replay: Replay, compared: Compared, rows: list[Row], watch: Watch, pace: tuple[Timeline, float] | None
) -> None:
    out = Console()
    out.print(comparing.table(compared))
    out.print(report.table(rows))
    facts = {
        "pace": f"{pace[1]:g} times the real one" if pace else "flat out",
        "by_country": {code: [n, compared.counted.get(code, 0)] for code, n in compared.expected.items()},
        "wrong": compared.wrong,
        "renamed": RENAMED,
        "seen": watch.seen,
        "signed": replay.acknowledged,
    }
    paths = report.write_json("replay", rows, facts), comparing.write_plot(watch.seen, replay.limit, pace)
    _told.print("Written:", *(path.relative_to(report.OUT.parent.parent) for path in paths))
    if any(row.verdict == "MISS" for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
