"""`keys`: making API keys from the command line, where no key is needed yet."""

import asyncio
from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated

import typer

from app.commands.console import CommandError
from app.commands.environment import DataDir, database_of, settings_of
from app.organizations import queries, service
from app.organizations.audit.chain import Act, append
from app.organizations.principals import OPERATOR
from app.organizations.service import KeyLimits
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
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days until it expires; else as many as a key may live.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="From where it may be used, as CIDR; can be repeated.")
    ] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute at the most.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key and print it, and nothing else: it is shown this once."""
    settings = settings_of(data_dir)
    if days and days > settings.key_longest_days:
        raise CommandError(f"A key lives {settings.key_longest_days} days at the most (MULTITUDE_KEY_LONGEST_DAYS).")
    life = timedelta(days=days) if days else settings.key_longest_life
    limits = KeyLimits([_network(one) for one in network] if network else None, per_minute)
    typer.echo(asyncio.run(_create(settings, organization, role, label, life, limits)))


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise CommandError("--network is a network in CIDR notation, without host bits.") from None


async def _create(
    settings: Settings, organization: str, role: str, label: str | None, life: timedelta, limits: KeyLimits
) -> str:
    async with database_of(settings, "keys") as database, database.transaction() as session:
        found = await queries.find(session, organization)
        if found is None:
            raise service.OrganizationNotFound
        api_key, key = await service.create_key(session, found, role, label, limits=limits, longest=life)
        await append(session, OPERATOR, Act("api_key.create", "api_key", str(api_key.id)))
        return key
