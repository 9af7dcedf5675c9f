"""`audit`: proving that nobody has changed the audit log."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from app.commands.console import AsJson, CommandError, err, out
from app.commands.environment import DataDir, database_of, settings_of
from app.organizations.audit.verification import Verdict
from app.organizations.audit.verification import verify as verify_chain
from app.settings import DEFAULT_DATA_DIR, Settings

cli = typer.Typer(help="The audit log of staff and partners.", no_args_is_help=True)


@cli.callback()
def audit() -> None:
    """The audit log of staff and partners."""


@cli.command()
def verify(
    expect: Annotated[
        list[str] | None, typer.Option(help="NUMBER:DIGEST as noted before; it must still be there. Can be repeated.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Digest every entry anew, and name the first that is not as it was written; exit 1 when there is one."""
    expected = _expected(expect or [])
    verdict = asyncio.run(_verify(settings_of(data_dir), expected))
    head = {"number": verdict.number, "digest": verdict.digest.hex()}
    if as_json:
        broken = {"number": verdict.number + 1, "reason": verdict.reason} if verdict.reason else None
        typer.echo(json.dumps({"intact": broken is None, "head": head, "broken": broken}))
    elif verdict.reason is None:
        out.print(f"{verdict.number:,} entries, all as they were written.", highlight=False)
        out.print(f"Note this elsewhere: {head['number']}:{head['digest']}", highlight=False, soft_wrap=True)
    else:
        err.print(f"Entry {verdict.number + 1} is broken: {verdict.reason}.", style="red", highlight=False)
    sys.exit(1 if verdict.reason else 0)


def _expected(noted: Sequence[str]) -> dict[int, bytes]:
    """The digests by number; CommandError when two contradict each other, for one of them cannot be true."""
    expected: dict[int, bytes] = {}
    for number, digest in map(_noted, noted):
        if expected.setdefault(number, digest) != digest:
            raise CommandError(f"--expect names two digests for entry {number}.")
    return expected


def _noted(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        return int(number), bytes.fromhex(digest)
    except ValueError:
        raise CommandError("--expect is written NUMBER:DIGEST.") from None


async def _verify(settings: Settings, expected: dict[int, bytes]) -> Verdict:
    # A log of many millions takes minutes.
    async with database_of(settings, "audit", answer_timeout=None) as database, database.snapshot() as session:
        with err.status("Verifying") if err.is_terminal else out.capture():
            return await verify_chain(session, expected)
