"""What a command would do, how long it would take and how much disk: `--dry-run`.

Times are measured on a few steps of the real work, not assumed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from bfjax import attacks, cells, data, feed, measures, models, records, running
from bfjax.cells import Cell
from bfjax.config import TrainConfig
from bfjax.judges import Target, answers
from bfjax.optimization import make_step
from bfjax.preparation import prepare, side_of
from bfjax.types import Attack
from bfjax.validation import validate

_STEPS = 3  # that are timed
_RECORD = 400  # bytes, of one image


class _EnoughError(Exception):
    """The steps that were timed are done."""


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


def of_cell(cell: Cell) -> Estimate:
    """Attacks the first batch for a few steps, and reckons from the last of them.

    Args:
      cell: what would be run; nothing of it is written.

    Returns:
      The estimate.

    Raises:
      ValueError: as `running.run`.
    """
    missing, unjudged = cell.left()
    if not missing and not unjudged:
        return Estimate(str(cell.out), "nothing", 0.0, 0)
    split = feed.split_locally()
    chosen = cell.images((missing or unjudged)[: split.mesh.size])
    images, labels = next(iter(feed.in_order(data.Subset(cell.source, chosen), len(chosen))))
    batch = feed.filled(split, cell.batch_size, images)
    versions = 2 + (len(measures.SAVED_AS) if cell.measure else 0)

    def judging(targets: Sequence[Target], shards: Sequence[int]) -> float:
        names, batches = cell.source.class_names, -(-len(shards) // split.mesh.size)
        judged = [functools.partial(answers, t, batch, labels, names) for t in targets]
        return batches * versions * seconds(lambda: [judge() for judge in judged])

    if not missing:
        count = len(cell.images(unjudged))
        later = cell.yet_to_judge(records.columns(cell.shard(unjudged[0])))
        work = f"{count} images, to be judged by {', '.join(t.name for t in later)}"
        return Estimate(str(cell.out), work, judging(later, unjudged), 0)
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
        running.attack_images(ready, split, images, labels, np.array(chosen), tick)
    step = times[-1] - times[-2]  # the first one compiled
    batches = -(-len(missing) // split.mesh.size)
    count = len(cell.images(missing))
    took = batches * step * cell.num_gradients + judging(ready.targets, missing)
    size = count * (_RECORD + 4 * _stored(cell, images[0]))
    return Estimate(str(cell.out), f"{count} images", took, size)


def _stored(cell: Cell, image: np.ndarray) -> int:
    """Numbers stored for each image."""
    size = image.size
    if isinstance(cell.attack, Attack):
        init = cell.attack.perturbation.init
        like = jax.eval_shape(lambda x: init(x, jax.random.key(0)), image)
        size = sum(leaf.size for leaf in jax.tree.leaves(like))
    return size if cell.store_all or size < image.size else 0


def of_training(config: TrainConfig, source: data.Source) -> Estimate:
    """Takes a few steps at each size of the images, and validates a batch.

    Args:
      config: of the run, from its start.
      source: the training split.

    Returns:
      The estimate; its disk is what the saved states take while it runs.

    Raises:
      ValueError: settings that do not fit each other or the images.
      FileNotFoundError: there are no such initial weights.
    """
    made = prepare(config, source)
    split = feed.split_batches(config.batch_size)
    whole = feed.on_every(split)
    state = jax.device_put(made.state, whole)
    first = next(iter(feed.shuffled(made.training, config.batch_size, seed=config.seed)))
    images, labels = (jax.make_array_from_process_local_data(split, x) for x in first)
    took = 0.0
    for side, epochs in collections.Counter(
        side_of(config, epoch) for epoch in range(config.epochs)
    ).items():
        step = make_step(made.graph, made.optimizer, config, size=side, placed=whole)
        times = []
        for _ in range(_STEPS):
            started = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, images, labels, made.weights))
            times.append(time.perf_counter() - started)
        one = data.Subset(made.validation, range(min(config.batch_size, len(made.validation))))
        predict = models.as_predict(nnx.merge(made.graph, *state.kept))
        forward = seconds(functools.partial(validate, predict, one, config, size=side))
        batches = len(made.validation) / config.batch_size
        took += epochs * (made.steps * times[-1] + batches * forward)
    kept = 2 * sum(x.nbytes for x in jax.tree.leaves(state))  # the newest two stay
    return Estimate(str(config.out), f"{config.epochs} epochs of {made.steps} steps", took, kept)


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
