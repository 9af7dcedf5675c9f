"""`keys rotate-digest`: after the digest key has leaked, everybody gets a digest that it does not tell."""

import asyncio
import json
from collections import Counter
from contextlib import nullcontext
from typing import Annotated

import asyncpg
import typer

from app import up as upping
from app.commands.console import AsJson, CommandError, out, progress
from app.commands.environment import DataDir, database_of, settings_of
from app.kit.crypto import digest_rotation, seal_counts
from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.database.session import Connection
from app.kit.room_interface import digested_tables_of
from app.rooms import ROOMS
from app.settings import DEFAULT_DATA_DIR, Settings

LeaveUnreadable = Annotated[bool, typer.Option(help="Go on where a key is missing: those values are lost for good.")]


def rotate_digest(
    as_json: AsJson = False, leave_unreadable: LeaveUnreadable = False, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """Wrap every digest under the newest of MULTITUDE_DIGEST_WRAPPING_KEYS, with the service stopped.

    Can be interrupted and run again. Until it is through, no process of the service starts.
    """
    try:
        # With `up` stopped, its PostgreSQL is, too. A folder that holds none is not given one.
        with upping.database_of(data_dir) if (data_dir / "postgres").is_dir() else nullcontext():
            settings = settings_of(data_dir, keys=True)
            done = asyncio.run(rotate(settings, leave_unreadable=leave_unreadable))
    except asyncpg.LockNotAvailableError:
        raise CommandError("Another transaction holds a table. What was committed stays: run it again.") from None
    if as_json:
        typer.echo(json.dumps(done))
    elif done["rows"]:
        out.print(f"All digests are wrapped: {done['rows']:,} rows. Start the service with these keys.")
        if done["unreadable"]:
            out.print(f"{done['unreadable']:,} values could not be opened. They were left as they are.")
    else:
        out.print("There was nothing to do.")


async def rotate(
    settings: Settings, *, leave_unreadable: bool = False, tables: list[DigestedTable] | None = None
) -> dict[str, int]:
    """Carry the rotation through; how many rows were renewed, and values that could not be opened."""
    tables = list(digested_tables_of(ROOMS)) if tables is None else tables
    async with database_of(settings, "digest rotation", answer_timeout=None) as database:
        connection = await database.pin()
        try:
            return await _rotate(connection, settings, tables, leave_unreadable)
        finally:
            await connection.close(timeout=5)
            await seal_counts.save(settings.key_ring, database)


async def _rotate(
    connection: Connection, settings: Settings, tables: list[DigestedTable], leave_unreadable: bool
) -> dict[str, int]:
    ring, done = settings.key_ring, Counter(rows=0, unreadable=0)
    if not await digest_rotation.prepare(connection, ring, tables):
        return dict(done)
    with progress("Wrapping digests", await digest_rotation.left(connection)) as (bar, task):
        async for one in digest_rotation.carry_out(connection, ring, tables, leave_unreadable=leave_unreadable):
            done.update(rows=one.row_count, unreadable=one.unreadable_count)
            bar.advance(task, one.row_count)
    await digest_rotation.finish(connection, ring, tables)
    return dict(done)
