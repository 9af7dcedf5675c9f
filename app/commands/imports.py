"""`import`: bringing data in."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from app.commands.console import AsJson, CommandError, out, progress
from app.commands.environment import DataDir, database_of, settings_of
from app.kit.crypto import seal_counts
from app.kit.database.session import Database
from app.organizations.audit.chain import Act, append
from app.organizations.principals import OPERATOR
from app.people.consents.policy import read_policies
from app.petitions.directory import Entry, open_directory
from app.petitions.service import PetitionNotFound
from app.settings import DEFAULT_DATA_DIR, Settings
from app.signatures.engine.lanes import claim
from app.signatures.importing import Import, Summary, read_lines
from app.signatures.service import PetitionNotOpen

cli = typer.Typer(help="Bring data in.", no_args_is_help=True)


@cli.callback()
def imports() -> None:
    """Bring data in."""


@cli.command()
def signatures(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    petition: Annotated[str, typer.Option(help="Slug or id.")],
    refused: Annotated[Path | None, typer.Option(help="Where refused lines are listed.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Import signatures from CSV or NDJSON; can be run again without doubling anything."""
    listed = refused or file.with_name(f"{file.name}.refused.csv")
    if listed.exists() and listed.samefile(file):
        raise CommandError("The refused lines cannot be listed in the very file they come from.")
    done = asyncio.run(_import(settings_of(data_dir, keys=True), file, petition, listed))
    if as_json:
        typer.echo(json.dumps({name: getattr(done, name) for name in ("read", "counted", "duplicate", "refused")}))
        return
    out.print(f"{done.read:,} lines: {done.counted:,} counted, {done.duplicate:,} had signed, {done.refused:,} refused")
    if done.refused:
        out.print(f"Each refused line is listed with its reason in {listed}")


async def _import(settings: Settings, file: Path, petition: str, listed: Path) -> Summary:
    async with database_of(settings, "import") as database:
        entry = await open_directory(database).refresh(petition)
        if entry is None:
            raise PetitionNotFound
        if not entry.accepting:
            raise PetitionNotOpen
        async with database.transaction() as session:
            asked = await read_policies(session)
        lane = await claim(database, settings.key_ring.fingerprint())
        done = Summary()
        try:
            try:
                with (
                    listed.open("w", newline="") as refused,
                    progress("Importing", file.stat().st_size) as (bar, task),
                ):
                    run = Import(lane, settings.key_ring, entry, refused, asked)
                    done = run.summary
                    await run.run(read_lines(file, lambda position: bar.update(task, completed=position)))
            finally:
                await lane.release()
                await seal_counts.save(settings.key_ring, database)
        finally:
            # Also of one that was broken off: what was committed by then stays.
            await _enter(database, entry, done)
        return done


async def _enter(database: Database, entry: Entry, done: Summary) -> None:
    async with database.transaction() as session:
        await append(session, OPERATOR, Act("signatures.import", "petition", str(entry.id), row_count=done.counted))
