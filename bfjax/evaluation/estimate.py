"""What an evaluation would take: a few steps of the real work are timed, nothing is assumed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence

import jax
import numpy as np

from bfjax import attacks, data, storage
from bfjax.attack import binary_cross_entropy, cross_entropy
from bfjax.data import feed
from bfjax.estimate import Estimate, seconds
from bfjax.evaluation import cells, measures, runner
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.targets import Target, answers
from bfjax.types import Attack

_STEPS = 3  # that are timed
_RECORD = 400  # bytes, of one image


class _EnoughError(Exception):
    """The steps that were timed are done."""


def of_cell(cell: Cell) -> Estimate:
    """Attacks the first batch for a few steps, and reckons from the last of them.

    Args:
      cell: what would be run; nothing of it is written.

    Returns:
      The estimate.

    Raises:
      ValueError: as `runner.run`.
    """
    missing, unjudged = cell.left()
    if not missing and not unjudged:
        return Estimate(str(cell.out), "nothing", 0.0, 0)
    split = feed.split_locally()
    chosen = cell.images((missing or unjudged)[: split.mesh.size])
    images, _ = next(iter(feed.in_order(data.Subset(cell.source, chosen), len(chosen))))
    labels = cell.truth[chosen]
    batch = feed.filled(split, cell.batch_size, images)
    versions = 2 + (len(measures.SAVED_AS) if cell.measure else 0)

    def judging(targets: Sequence[Target], shards: Sequence[int]) -> float:
        names, batches = cell.source.class_names, -(-len(shards) // split.mesh.size)
        judged = [functools.partial(answers, t, batch, labels, names) for t in targets]
        return batches * versions * seconds(lambda: [judge() for judge in judged])

    if not missing:
        count = len(cell.images(unjudged))
        later = cell.yet_to_judge(storage.shard_columns(cell.shard(unjudged[0])))
        work = f"{count} images, to be judged by {', '.join(t.name for t in later)}"
        return Estimate(str(cell.out), work, judging(later, unjudged), 0)
    long_enough = isinstance(cell.attack, Attack) and cell.attack.num_steps >= _STEPS
    # a gradient costs the same in all of them
    usual = attacks.bim(loss=binary_cross_entropy if cell.multi_label else cross_entropy)
    sample = cell if long_enough else dataclasses.replace(cell, attack=usual)
    ready = cells.placed(sample, feed.on_every(split))
    times: list[float] = []

    def tick(gradients: int) -> None:
        times.append(time.perf_counter())
        if len(times) == _STEPS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        runner.attack_images(ready, split, images, np.array(chosen), tick)
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
