"""Progress bars for whoever waits; silent when nobody watches."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bar() -> Progress:
    """A rich progress bar on stderr, disabled when stderr is no terminal.

    Returns:
      A context manager; `add_task`, `advance` and `track` as in `rich.progress.Progress`.

    Example:
      >>> with bar() as shown:
      ...     done = [i for i in shown.track(range(3))]
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=sys.stderr is None or not sys.stderr.isatty(),
    )


def note(text: str) -> None:
    """Says something on stderr that is no error and needs no action.

    Args:
      text: one line.

    Example:
      >>> note("no image is of the class B")
    """
    print(f"bfjax: note: {text}", file=sys.stderr, flush=True)
