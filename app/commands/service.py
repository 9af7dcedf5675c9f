"""`up`, `serve`, `worker`, `migrate`: keeping the service running."""

import ctypes
import json
import os
import signal
import sys
from functools import partial
from typing import Annotated

import typer

from app import up as upping
from app import worker as working
from app.commands.environment import DataDir, check_keys, migrate_if_behind, settings_of
from app.kit.database.schema_version import head
from app.kit.text.urls import url_of
from app.serving import server
from app.settings import DEFAULT_DATA_DIR, Settings

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535)]
_PR_SET_PDEATHSIG = 1


def up(host: Host = "127.0.0.1", port: Port = 8000, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Run everything: PostgreSQL, migrations, the API, the worker; with something to look at on the first start."""
    # `kill` ends everything in order from the first moment on, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # First: the owner's key of the first start is shown once, by a service that listens.
        server.check_address(host, port)
        upping.prepare_folder(data_dir)
        with upping.database_of(data_dir) as postgres:
            url = url_of(host, port)
            settings = upping.with_defaults(settings_of(data_dir, keys=True), data_dir, url)
            migrate_if_behind(settings)
            check_keys(settings)
            first = upping.make_ready(settings)
            announce = partial(_welcome, first, url, _mails_of(settings, url))
            upping.run(settings, host, port, data_dir, postgres, announce)
    except KeyboardInterrupt:
        return


def _mails_of(settings: Settings, url: str) -> str:
    """Where mails are kept that are not sent: the page, or where there is none the folder."""
    if settings.smtp_url is not None:
        return ""
    return str(settings.outbox_dir) if settings.shown_outbox is None else f"{url}/outbox"


def _welcome(first: upping.FirstStart | None, url: str, mails: str) -> None:
    lines = ["", f"Multitude is running at {url}", f"  documentation   {url}/docs"]
    if mails:
        lines.append(f"  mails           {mails}   (kept here, for no SMTP_URL is set)")
    if first is not None:
        body = {"given_name": "Amina", "family_name": "Okello", "email": "amina@example.org", "country": "UG"}
        petition = f"{url}/v1/petitions/{first.petition}"
        lines += [
            f"  owner key       {first.owner_key}   (shown this once)",
            "",
            "Watch the demo petition's count in one terminal:",
            f"  curl -N {petition}/stream",
            "and sign it in another:",
            f"  curl {petition}/signatures -H 'content-type: application/json' -d '{json.dumps(body)}'",
        ]
    typer.echo("\n".join([*lines, ""]))
    sys.stdout.flush()


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Serve the API."""
    settings = settings_of(data_dir, keys=True)
    check_keys(settings)
    server.serve(settings, host, port, workers)


def worker(data_dir: DataDir = DEFAULT_DATA_DIR, parent: Annotated[int, typer.Option(hidden=True)] = 0) -> None:
    """Run what goes on by itself: openings, closings, milestones, invalidations, retention; and send the mails."""
    if parent:
        _end_with(parent)
    settings = settings_of(data_dir, keys=True)
    check_keys(settings)
    working.run(settings)


def _end_with(parent: int) -> None:
    """Get SIGTERM when the process that started this one is gone, however it went (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def migrate(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Bring the database's schema up to date."""
    migrate_if_behind(settings_of(data_dir))
    typer.echo(f"The schema is at {head()}.")
