"""What all commands print with: the console, a progress bar, and an error that is told in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.kit.problems import OperatorError

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Tell it to a machine.")]


class CommandError(OperatorError):
    """The command cannot be carried out; the message is for its user."""


@contextmanager
def progress(title: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on standard error, silent when nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        yield bar, bar.add_task(title, total=total)
