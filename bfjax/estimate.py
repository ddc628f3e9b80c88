"""How long an evaluation would take and how much it would store, from its first batch."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from bfjax import attacks, cells, data, feed, measures
from bfjax.cells import Cell
from bfjax.judges import answers
from bfjax.types import Attack

_STEPS = 3  # that are timed
_RECORD = 400  # bytes, of one image


class _EnoughError(Exception):
    """The steps that were timed are done."""


class Estimate(NamedTuple):
    """What a cell is still expected to take.

    Attributes:
      images: how many are left, for this process.
      seconds: at most, where the attack may stop early; without compilation and measures.
      size: of the shards, in bytes, before they are compressed.
    """

    images: int
    seconds: float
    size: int


def estimate(cell: Cell) -> Estimate:
    """Attacks the first batch for a few steps, and reckons from the last of them.

    Args:
      cell: what would be run; nothing of it is written.

    Returns:
      The estimate.

    Raises:
      ValueError: as `cells.run`.
    """
    missing = cell.missing()
    if not missing:
        return Estimate(0, 0.0, 0)
    split = feed.split_locally()
    chosen = cell.images(missing[: split.mesh.size])
    images, labels = next(iter(feed.in_order(data.Subset(cell.source, chosen), len(chosen))))
    long_enough = isinstance(cell.attack, Attack) and cell.attack.num_steps >= _STEPS
    # a gradient costs the same in all of them
    sample = cell if long_enough else dataclasses.replace(cell, attack=attacks.bim())
    ready = cells.placed(sample, feed.on_every(split))
    times: list[float] = []

    def tick(gradients: int) -> None:
        times.append(time.perf_counter())
        if len(times) == _STEPS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        cells.attack_images(ready, split, images, labels, np.array(chosen), tick)
    step = times[-1] - times[-2]  # the first one compiled
    batch = cells.filled(split, cell.batch_size, images)
    for _ in range(2):
        started = time.perf_counter()
        for target in ready.targets:
            answers(target, batch, labels, cell.source.class_names)
        forward = time.perf_counter() - started
    versions = 2 + (len(measures.SAVED_AS) if cell.measure else 0)
    batches = -(-len(missing) // split.mesh.size)
    count = len(cell.images(missing))
    seconds = batches * (step * cell.num_gradients + forward * versions)
    return Estimate(count, seconds, count * (_RECORD + 4 * _stored(cell, images[0])))


def _stored(cell: Cell, image: np.ndarray) -> int:
    """Numbers stored for each image."""
    size = image.size
    if isinstance(cell.attack, Attack):
        init = cell.attack.perturbation.init
        like = jax.eval_shape(lambda x: init(x, jax.random.key(0)), image)
        size = sum(leaf.size for leaf in jax.tree.leaves(like))
    return size if cell.store_all or size < image.size else 0


def show(todo: Sequence[Cell]) -> None:
    """Prints the estimate of each cell, and their sum.

    Args:
      todo: what would be run.
    """
    table = Table(title="what would be run")
    for heading in ("results in", "images left", "time", "disk"):
        table.add_column(heading, overflow="fold", justify="left" if not table.columns else "right")
    found = [estimate(cell) for cell in todo]
    names = [str(cell.out) for cell in todo]
    for name, one in [*zip(names, found, strict=True), ("in all", _sum(found))]:
        took = str(datetime.timedelta(seconds=round(one.seconds)))
        table.add_row(name, str(one.images), took, f"{one.size / 1e6:.1f} MB")
    console = Console()
    console.print(table)
    console.print(
        f"on {jax.local_device_count()} x {jax.devices()[0].device_kind}, without compilation; "
        "attacks that search may be done earlier",
        highlight=False,
    )


def _sum(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(*(sum(values) for values in zip(*estimates, strict=True)))
