"""`doctor`: looking at all that the service needs, and saying what to do."""

import asyncio
import json
import sys
from pathlib import Path

import typer
from rich.table import Table

from app.commands.console import AsJson, err, out
from app.commands.environment import DataDir, settings_of
from app.doctor import Finding, examine
from app.settings import DEFAULT_DATA_DIR, Settings

_STYLES = {"ok": "green", "warning": "yellow", "wrong": "red"}


def doctor(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Check database, schema, keys, mail and what waits; exit 1 when anything is wrong."""
    findings = asyncio.run(_examine(_settings(data_dir)))
    is_healthy = all(one.status != "wrong" for one in findings)
    if as_json:
        typer.echo(json.dumps({"healthy": is_healthy, "checks": [one._asdict() for one in findings]}))
    else:
        _show(findings)
    sys.exit(0 if is_healthy else 1)


def _settings(data_dir: Path) -> Settings:
    """The settings. As for `multitude up`, mails are stored in the data folder when they are sent nowhere."""
    settings = settings_of(data_dir)
    outbox = data_dir / "outbox"
    if settings.smtp_url is None and settings.outbox_dir is None and outbox.is_dir():
        return settings.model_copy(update={"outbox_dir": outbox})
    return settings


async def _examine(settings: Settings) -> list[Finding]:
    with err.status("Looking") if err.is_terminal else out.capture():
        return [finding async for finding in examine(settings)]


def _show(findings: list[Finding]) -> None:
    table = Table("check", "", "found", "what to do")
    for one in findings:
        table.add_row(one.check, f"[{_STYLES[one.status]}]{one.status}[/]", one.found, one.advice)
    out.print(table)
