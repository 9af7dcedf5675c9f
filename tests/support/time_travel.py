"""Time that passes at once: what lies in the database is moved, no clock is."""

import datetime as dt

from sqlalchemy import update

from app.kit.clock import now
from app.kit.database.session import Database
from app.petitions.models import Petition
from tests.support.databases import run


def in_days(days: float) -> dt.datetime:
    """So many days from now; a negative number of them ago."""
    return now() + dt.timedelta(days=days)


async def age(database: Database, table: str, column: str, interval: str) -> None:
    """Let so much time pass for all rows of a table."""
    await run(database, f"UPDATE {table} SET {column} = {column} - interval '{interval}'")


async def age_petitions(database: Database, time: dt.timedelta) -> None:
    """Let time pass for all petitions: what lay ahead comes nearer by so much."""
    async with database.transaction() as session:
        await session.execute(
            update(Petition).values(opens_at=Petition.opens_at - time, closes_at=Petition.closes_at - time)
        )


async def make_messages_due(database: Database) -> None:
    """What waits to be sent again is due now, as it will be after a while."""
    await run(database, "UPDATE webhook_messages SET due_at = least(due_at, now()) WHERE state = 'due'")
    await run(database, "UPDATE webhook_endpoints SET ordered_due_at = NULL")
