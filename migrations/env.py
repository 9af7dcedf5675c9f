"""How a migration runs: one at a time, in one transaction, and never waiting long for a lock."""

import asyncio
import time

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.rooms import metadata_of

# "schema" in ASCII: whoever migrates holds this advisory lock.
_LOCK = 0x736368656D61
# Seconds.
_LOOK_EVERY = 0.1


def _wait_for_our_turn(connection: Connection) -> None:
    # Asked again and again: a transaction that waits is one that an index built concurrently would wait for.
    while not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar():
        connection.commit()
        time.sleep(_LOOK_EVERY)


def _run(connection: Connection) -> None:
    _wait_for_our_turn(connection)
    # A migration that waits for a lock makes everybody behind it wait too: it gives up and is run again.
    connection.execute(text("SET lock_timeout = '4s'"))
    connection.execute(text("SET statement_timeout = '10min'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata_of(),
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    connection.commit()


async def _connect_and_run() -> None:
    engine = create_async_engine(context.config.attributes["url"], poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database: set DATABASE_URL.")
given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    asyncio.run(_connect_and_run())
