"""What all commands run against: the settings, the database for the length of a command, its schema and its keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, ProgrammingError

from app.commands.console import CommandError
from app.kit.crypto.key_ring_guard import ensure_key_ring
from app.kit.database.schema_version import current, head, upgrade
from app.kit.database.session import ANSWER_TIMEOUT, Database
from app.kit.web.errors import is_unreachable
from app.settings import Settings, load

DataDir = Annotated[Path, typer.Option(help="Folder of the embedded database and its keys.")]


def settings_of(data_dir: Path, *, keys: bool = False) -> Settings:
    """The settings, from the environment or the data folder; with `keys`, a valid key ring is insisted on."""
    try:
        settings = load(data_dir)
    except ValidationError as error:
        wrong = ", ".join(str(part) for e in error.errors() for part in e["loc"])
        raise CommandError(
            f"Not set, or not valid: {wrong}. Set it in the environment, or run `multitude up` in this folder."
        ) from None
    if keys:
        try:
            _ = settings.key_ring
        except ValueError as error:
            raise CommandError(f"{error}.") from None
    return settings


@asynccontextmanager
async def database_of(
    settings: Settings, name: str, *, answer_timeout: float | None = ANSWER_TIMEOUT
) -> AsyncIterator[Database]:
    """The database for the length of a command; CommandError when it cannot be reached or has no schema."""
    database = Database(settings.database_url.get_secret_value(), pool_size=2, name=name, answer_timeout=answer_timeout)
    try:
        yield database
    except ProgrammingError:
        raise CommandError("The database's schema is behind: run `multitude migrate`.") from None
    except (asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
        raise CommandError("The connection to the database was lost. What was committed stays: run it again.") from None
    except (DBAPIError, OSError) as error:
        if not is_unreachable(error):
            raise
        raise CommandError("The database cannot be reached. Is `multitude up` running?") from None
    finally:
        await database.close()


def migrate_if_behind(settings: Settings) -> None:
    """Bring the schema up to date, if it is behind; CommandError when the database cannot be reached."""
    url = settings.database_url.get_secret_value()
    try:
        if asyncio.run(_revision(settings)) != head():
            upgrade(url)
    except ValueError as error:
        raise CommandError(f"{error}.") from None


async def _revision(settings: Settings) -> str | None:
    async with database_of(settings, "migrate") as database:
        return await current(database)


def check_keys(settings: Settings) -> None:
    """KeyRingMismatchError when the database was filled with another digest key; silent while it is out of reach."""
    try:
        asyncio.run(_guard(settings))
    except CommandError:
        # The service starts all the same and says on `/readyz` what is missing.
        return


async def _guard(settings: Settings) -> None:
    async with database_of(settings, "keys") as database, database.transaction() as session:
        await ensure_key_ring(session, settings.key_ring.fingerprint())
