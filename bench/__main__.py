"""`python -m bench`: every scenario in turn, then the table."""

import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

from bench import report
from bench.load import require_wrk
from bench.rows import Row
from bench.scenarios import Bench, Scenario
from bench.scenarios.registry import SCENARIOS
from bench.stage import stage

# On the error output, so that the table alone can be piped into a file.
_told = Console(stderr=True)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Scenario to run; can be given again.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A look: 1 s, 1 round, 100,000.")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of measurements.")] = 3,
    big: Annotated[int, typer.Option(min=1000, help="Signatures of a big petition.")] = 5_000_000,
) -> None:
    """Measure, print a table, write `bench/out/bench.json` and `bench/out/bench.png`."""
    chosen = _chosen(only)
    require_wrk()
    if quick:
        seconds, rounds, big = 1, 1, 100_000
    with stage() as (cluster, services, folder), _told.status("starting") as status:
        bench = Bench(cluster, services, folder, seconds, rounds, big, status.update)
        facts = {"seconds": seconds, "rounds": rounds, "big": big, "postgresql": cluster.facts()}
        rows, failed = _run(bench, chosen)
    Console(width=None if sys.stdout.isatty() else 200).print(report.table(rows))
    paths = report.write_json("bench", rows, facts | {"failed": failed}), report.write_plot(rows)
    _told.print("Written:", *(path.relative_to(report.OUT.parent.parent) for path in paths))
    if failed:
        _told.print(f"[red]Could not be measured: {', '.join(failed)}[/]")
        raise typer.Exit(1)


def _chosen(only: list[str] | None) -> dict[str, Scenario]:
    unknown = set(only or []) - set(SCENARIOS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    return {name: run for name, run in SCENARIOS.items() if not only or name in only}


def _run(bench: Bench, chosen: dict[str, Scenario]) -> tuple[list[Row], list[str]]:
    rows, failed = [], []
    for name, scenario in chosen.items():
        bench.say(name)
        try:
            for row in scenario(bench):
                rows.append(row)
                _told.print(report.line(row))
        except Exception:  # noqa: BLE001 - one scenario that breaks must not cost the others
            failed.append(name)
            _told.print(f"FAILED {name}\n{traceback.format_exc()}", markup=False)
    return rows, failed


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
