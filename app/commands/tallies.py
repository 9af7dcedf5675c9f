"""`tally`: looking at tallies, and proving them."""

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Annotated, get_args

import typer
from rich.table import Table

from app.commands.console import AsJson, CommandError, err, out
from app.commands.environment import DataDir, database_of, settings_of
from app.organizations.principals import OPERATOR
from app.petitions import queries as petitions
from app.petitions.service import PetitionNotFound
from app.settings import DEFAULT_DATA_DIR, Settings
from app.signatures.reading.breakdown import as_csv, break_down
from app.signatures.reading.recount import Verdict, recount
from app.signatures.schemas import DimensionName, TallyView

cli = typer.Typer(help="Look at tallies, and prove them.", no_args_is_help=True)
_SHOWN_DIFFERENCES = 20


@cli.command()
def show(
    petition: Annotated[str, typer.Option(help="Slug or id.")],
    by: Annotated[str, typer.Option(help=", ".join(get_args(DimensionName)))] = "country",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print a petition's exact tally as CSV, or as JSON."""
    if by not in get_args(DimensionName):
        raise CommandError(f"--by is one of: {', '.join(get_args(DimensionName))}.")
    view = asyncio.run(_show(settings_of(data_dir), petition, by))
    typer.echo(view.model_dump_json() if as_json else as_csv(view), nl=as_json)


async def _show(settings: Settings, petition: str, by: DimensionName) -> TallyView:
    async with database_of(settings, "tally") as database, database.transaction() as session:
        found = await petitions.find(session, petition, OPERATOR)
        if found is None:
            raise PetitionNotFound
        return await break_down(session, found.id, by)


@cli.command()
def verify(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Recount every petition from its signatures and compare with the tallies; exit 1 when they differ."""
    verdicts = asyncio.run(_verify(settings_of(data_dir)))
    wrong = [verdict for verdict in verdicts if verdict.differences]
    if as_json:
        told = {"agrees": not wrong, "petitions": [asdict(verdict) for verdict in verdicts]}
        typer.echo(json.dumps(told, default=str))
    else:
        _tell(verdicts, wrong)
    sys.exit(1 if wrong else 0)


async def _verify(settings: Settings) -> list[Verdict]:
    # A petition of many millions is recounted in minutes.
    async with database_of(settings, "tally", answer_timeout=None) as database, database.snapshot() as session:
        with err.status("Recounting") if err.is_terminal else out.capture():
            return [verdict async for verdict in recount(session)]


def _tell(verdicts: list[Verdict], wrong: list[Verdict]) -> None:
    counted = sum(verdict.signature_count for verdict in verdicts)
    if not wrong:
        out.print(f"{len(verdicts):,} petitions, {counted:,} signatures: every tally agrees with a recount.")
        return
    table = Table("petition", "dimension", "key", "counted", "tallied", title="Tallies that differ from a recount")
    for verdict in wrong:
        for d in verdict.differences[:_SHOWN_DIFFERENCES]:
            table.add_row(verdict.slug, d.dimension, d.key, f"{d.counted:,}", f"{d.tallied:,}")
    out.print(table)
