"""What a command would do, how long it would take and how much disk: `--dry-run`.

Each package reckons its own work, from a few steps of it that are timed.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from rich.console import Console
from rich.table import Table


class Estimate(NamedTuple):
    """What a piece of work is still expected to take.

    Attributes:
      what: it makes, usually a folder.
      work: what is left of it, in words.
      seconds: at most, where an attack may stop early; without compilation.
      size: bytes on disk, before they are compressed.
    """

    what: str
    work: str
    seconds: float
    size: int


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes that was compiled before.

    Args:
      call: is made twice.

    Returns:
      Seconds of the second.
    """
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def show(found: Sequence[Estimate]) -> None:
    """Prints estimates, and their sum.

    Args:
      found: of all that would be done.
    """
    table = Table(title="what would be done")
    for heading in ("makes", "left to do", "time", "disk"):
        justify = "left" if len(table.columns) < 2 else "right"
        table.add_column(heading, overflow="fold", justify=justify)
    total = Estimate("in all", "", sum(e.seconds for e in found), sum(e.size for e in found))
    for one in [*found, total] if len(found) > 1 else found:
        took = str(datetime.timedelta(seconds=round(one.seconds)))
        table.add_row(one.what, one.work, took, f"{one.size / 1e6:.1f} MB")
    console = Console()
    console.print(table)
    console.print(
        f"on {jax.local_device_count()} x {jax.devices()[0].device_kind}, without compilation; "
        "attacks that search may be done earlier",
        highlight=False,
    )
