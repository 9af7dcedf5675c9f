"""`keys rotate-encryption`: bringing everything that is sealed under the newest key."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import typer

from app.commands.console import AsJson, CommandError, out, progress
from app.commands.environment import DataDir, database_of, settings_of
from app.kit.crypto import key_rotation, seal_counts
from app.kit.crypto.key_ring_guard import ensure_key_ring
from app.kit.crypto.key_rotation import Resealed
from app.kit.room_interface import Room, sealed_columns_of
from app.rooms import ROOMS
from app.settings import DEFAULT_DATA_DIR, Settings


def rotate_encryption(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Seal everything anew under the newest key while the service runs; can be interrupted and run again.

    Exit 1 when something is left under an older key, or opens with no key at all.
    """
    settings = settings_of(data_dir, keys=True)
    try:
        done = asyncio.run(rotate(settings))
    except key_rotation.BLOCKED:
        raise CommandError("Another transaction holds a table. What was committed stays: run it again.") from None
    if as_json:
        typer.echo(json.dumps(_summed(done)))
    else:
        _tell(settings, done)
    sys.exit(1 if any(one.unreadable_count or one.left_count for one in done.values()) else 0)


async def rotate(settings: Settings, rooms: Sequence[Room] = ROOMS) -> Mapping[str, Resealed]:
    """Bring every sealed column of these rooms under the newest key; what became of each, by its name."""
    columns = sealed_columns_of(rooms)
    ring = settings.key_ring
    # A table of many millions is counted in minutes.
    async with database_of(settings, "rotation", answer_timeout=None) as database:
        async with database.transaction() as session:
            await ensure_key_ring(session, ring.fingerprint())
        stale = [(await key_rotation.count(database, ring, column)).stale_count for column in columns]
        connection = await database.pin()
        try:
            with progress("Sealing anew", sum(stale)) as (bar, task):
                done: dict[str, Resealed] = {}
                for column in (*columns, *columns):
                    # A value may have moved meanwhile to a table that had been passed over.
                    if column.name in done and not (await key_rotation.count(database, ring, column)).stale_count:
                        continue
                    resealed = await key_rotation.reseal(
                        database, connection, ring, column, lambda more: bar.advance(task, more)
                    )
                    done[column.name] = _added(done.get(column.name), resealed)
                return done
        finally:
            await connection.close(timeout=5)
            await seal_counts.save(ring, database)


def _added(before: Resealed | None, after: Resealed) -> Resealed:
    """The outcome of a column that was passed over once more."""
    return after if before is None else replace(after, resealed_count=before.resealed_count + after.resealed_count)


def _summed(done: Mapping[str, Resealed]) -> dict[str, object]:
    return {
        "resealed": sum(one.resealed_count for one in done.values()),
        "unreadable": sum(one.unreadable_count for one in done.values()),
        "left": sum(one.left_count for one in done.values()),
        "tables": {name: asdict(one) for name, one in done.items()},
    }


def _tell(settings: Settings, done: Mapping[str, Resealed]) -> None:
    for name, one in done.items():
        if one.unreadable_count:
            out.print(f"{name}: no key opens {one.unreadable_count:,} values. They were left as they are.")
        if one.left_count:
            out.print(f"{name}: {one.left_count:,} values are still under an older key.")
    if any(one.left_count for one in done.values()):
        out.print("Is every process running with the newest key? Start anew those that are not, and run this again.")
    elif not any(one.unreadable_count for one in done.values()):
        _tell_complete(settings, done)


def _tell_complete(settings: Settings, done: Mapping[str, Resealed]) -> None:
    sealed, resealed = (sum(getattr(one, name) for one in done.values()) for name in ("sealed_count", "resealed_count"))
    out.print(f"All {sealed:,} values are under the newest key: {resealed:,} were sealed anew.")
    if len(settings.key_ring.ciphers) == 1:
        out.print("There is nothing else to do.")
        return
    if settings.digest_key is None:
        out.print(
            "First set MULTITUDE_DIGEST_KEY to the last secret of MULTITUDE_SECRET_KEYS, which has served as the "
            "digest key: without it the service will refuse to start."
        )
    out.print(
        "When every process has been started with the newest key, the older ones can be removed from "
        "MULTITUDE_SECRET_KEYS."
    )
