"""`backfill`: consents from before partners were told of them are announced, once, after an upgrade."""

import asyncio
import json

import typer

from app.commands.console import AsJson, err, out
from app.commands.environment import DataDir, database_of, settings_of
from app.kit.database.session import Database
from app.partners.outbound.message_types.backfill import Backfill
from app.settings import DEFAULT_DATA_DIR

# Seconds between two looks at a full outbox.
_PAUSE = 1.0


def backfill(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Tell partners of consents from before they were told of any; can be interrupted and run again.

    Run it once, ten minutes after the last process of the version before has ended. It needs a worker that runs.
    """
    settings = settings_of(data_dir)

    async def run() -> int:
        async with database_of(settings, "backfill") as database:
            return await announce(database)

    with err.status("Announcing consents; as fast as the worker tells of them") if err.is_terminal else out.capture():
        announced = asyncio.run(run())
    typer.echo(json.dumps({"announced": announced})) if as_json else out.print(f"{announced:,} consents announced.")


async def announce(database: Database) -> int:
    """Walk through the whole ledger; how many consents were announced."""
    walk, announced = Backfill(), 0
    while not walk.is_complete:
        async with database.transaction() as session:
            announced += len(await walk.step(session))
        if walk.is_waiting:
            await asyncio.sleep(_PAUSE)
    return announced
