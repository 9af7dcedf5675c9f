"""The schema: where its migrations are, which one is the newest, and how to get there.

Alembic is imported only when something is to be done: a service that starts on a current schema never needs it.
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
    """`migrations/` beside the package in a checkout, inside it when installed."""
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
    """Bring the database to a revision; several processes may try at once, one does it."""
    from alembic import command

    command.upgrade(configuration(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Bring the database back to a revision."""
    from alembic import command

    command.downgrade(configuration(url), revision)
