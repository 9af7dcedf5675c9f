"""The command line's door."""

import sys

import typer

from app.commands import audit, backfill, digest_rotation, doctor, imports, keys, rotation, service, tallies
from app.commands.console import err
from app.kit import logs
from app.kit.problems import OperatorError, Problem

cli = typer.Typer(
    name="multitude",
    help="Multitude, the backend of a movement.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (service.up, service.serve, service.worker, service.migrate, doctor.doctor, backfill.backfill):
    cli.command()(command)
keys.cli.command()(rotation.rotate_encryption)
keys.cli.command()(digest_rotation.rotate_digest)
cli.add_typer(audit.cli, name="audit")
cli.add_typer(keys.cli, name="keys")
cli.add_typer(imports.cli, name="import")
cli.add_typer(tallies.cli, name="tally")


def main() -> None:
    """Run a command; what goes wrong is told in a sentence, not as a traceback."""
    # Before anything is logged, settings that are read included: standard output is for what was asked for.
    logs.configure()
    try:
        cli()
    except OperatorError as error:
        err.print(str(error), style="red", highlight=False)
        sys.exit(1)
    except Problem as problem:
        err.print(f"{problem.title()}. {problem.detail or ''}".strip(), style="red", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
