"""`keys`: making API keys from the command line, where no key is needed yet."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

import typer

from app.commands.environment import DataDir, database_of, settings_of
from app.kit.clock import now
from app.organizations import queries, service
from app.settings import DEFAULT_DATA_DIR, Settings

cli = typer.Typer(help="API keys.", no_args_is_help=True)


@cli.callback()
def keys() -> None:
    """API keys."""


@cli.command()
def create(
    organization: Annotated[str, typer.Option(help="Slug; the movement's own is `movement`.")],
    role: Annotated[str, typer.Option(help="owner, campaigner, analyst, data_officer; or partner.")],
    label: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36500, help="Days until it expires.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key and print it, and nothing else: it is shown this once."""
    expires_at = now() + timedelta(days=days) if days else None
    typer.echo(asyncio.run(_create(settings_of(data_dir), organization, role, label, expires_at)))


async def _create(
    settings: Settings, organization: str, role: str, label: str | None, expires_at: datetime | None
) -> str:
    async with database_of(settings, "keys") as database, database.transaction() as session:
        found = await queries.find(session, organization)
        if found is None:
            raise service.OrganizationNotFound
        _, key = await service.create_key(session, found, role, label=label, expires_at=expires_at)
        return key
