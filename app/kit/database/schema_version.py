"""The schema's version: where the migrations are, which is the newest, and how to upgrade to it.

Alembic is imported only when a migration is to run: a service that starts on a current schema never needs it.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

import app
from app.kit.database.session import Database, sqlalchemy_url

if TYPE_CHECKING:
    from alembic.config import Config


def folder() -> Path:
    """The folder of the migrations: beside the package in a checkout, inside it when installed."""
    package = Path(app.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@cache
def head() -> str:
    """The newest revision: the name of the newest file, since they are named by date (a test asks Alembic too)."""
    return max(path.stem for path in (folder() / "versions").glob("2*.py"))


async def current(database: Database) -> str | None:
    """The revision the database is at; None when it has no schema yet."""
    try:
        async with database.transaction() as session:
            revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    except ProgrammingError:
        return None


def configuration(url: str) -> "Config":
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder()))
    config.attributes["url"] = sqlalchemy_url(url)
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the database to a revision; of several processes that try at once, one does it."""
    from alembic import command

    command.upgrade(configuration(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Downgrade the database to a revision."""
    from alembic import command

    command.downgrade(configuration(url), revision)
