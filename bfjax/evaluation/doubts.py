"""Whether a model seems to get the images that it was trained on: asked of a few, before a run."""

from __future__ import annotations

import warnings

import jax
import numpy as np
from jaxtyping import Float, Integer

from bfjax import data
from bfjax.attack import logits_of
from bfjax.data import feed
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.classes import answered
from bfjax.evaluation.targets import named

_FEWEST, _ENOUGH = 8, 16  # of fewer images nothing is said; so many tell chance from a classifier
_CHANGES = 0.01  # of the largest output


def look(cell: Cell, split: jax.sharding.Sharding) -> None:
    """Warns of models that seem to get images in a range that they were not trained on.

    Checkpoints of bfjax know their range. Each model is asked once, about a batch of clean images,
    at least 16, with as many of each class as there are.

    Args:
      cell: with its arrays on the devices of `split`.
      split: how a batch lies on the devices.

    Warns:
      UserWarning: as `warn_of_range`.
    """
    asked = cell.said.setdefault("range", {})  # by the cells of one evaluation
    targets = [t for t in cell.targets if not t.is_checkpoint and t.name not in asked]
    asked |= {target.name: True for target in targets}
    at_once = len(split.device_set) * cell.batch_size
    rows = evenly(cell.truth, max(at_once, _ENOUGH))
    if not targets or len(rows) < _FEWEST:
        return
    batches = [x for x, _ in feed.in_order(data.Subset(cell.source, rows.tolist()), at_once)]
    for target in targets:
        with named(target):
            said = [
                np.asarray(logits_of(target.predict, feed.filled(split, cell.batch_size, images)))
                for images in batches
            ]
        logits = np.concatenate([z[: len(x)] for z, x in zip(said, batches, strict=True)])
        warn_of_range(logits, cell.truth[rows], name=target.name)


def evenly(labels: Integer[np.ndarray, "n ..."], count: int) -> Integer[np.ndarray, " rows"]:
    """The first images of all classes in turns.

    Args:
      labels: (n,), or (n, heads), of which all are alike here.
      count: how many at most.

    Returns:
      Where they stand, in order.

    Example:
      >>> evenly(np.array([0, 0, 0, 0, 1, 1]), 4).tolist()
      [0, 1, 4, 5]
    """
    turns = np.zeros(len(labels), int)
    for c in np.unique(labels) if labels.ndim == 1 else ():
        of_class = labels == c
        turns[of_class] = np.arange(of_class.sum())
    return np.sort(np.argsort(turns, kind="stable")[:count])


def warn_of_range(
    logits: Float[np.ndarray, "n outputs"], labels: Integer[np.ndarray, "n ..."], *, name: str
) -> None:
    """Warns where a model hardly tells images apart, or is no more often right than by chance.

    The first holds where no output changes by a hundredth of the largest; the second where the
    share that is found, in the mean over the classes, and two standard errors of guessing stay in
    the lower half between chance and 1. Of fewer than eight images nothing is said.

    Args:
      logits: (n, outputs), what the model said of different images.
      labels: (n,), or (n, heads); -1 where it is not known.
      name: of the model.

    Warns:
      UserWarning: naming the model and the options.

    Example:
      >>> import warnings
      >>> with warnings.catch_warnings(record=True) as caught:
      ...     warnings.simplefilter("always")
      ...     warn_of_range(np.ones((8, 2)), np.arange(8) % 2, name="net")
      >>> str(caught[0].message)[:46]
      'net says the same of 8 different clean images:'
    """
    if len(logits) < _FEWEST or not np.isfinite(logits).all():
        return
    if np.ptp(logits, axis=0).max() <= _CHANGES * np.abs(logits).max():
        told = f"says the same of {len(logits)} different clean images"
    elif (right := _no_better_than_chance(logits, labels)) is not None:
        told = f"is right about {right} of {len(logits)} clean images, no better than chance"
    else:
        return
    warnings.warn(
        f"{name} {told}: does it expect another range than it gets? --input-range, "
        "--mean and --std say what it was trained on, in Python bfjax.models.normalized",
        stacklevel=3,
    )


def _no_better_than_chance(
    logits: Float[np.ndarray, "n outputs"], labels: Integer[np.ndarray, "n ..."]
) -> int | None:
    """How many answers are right, where that are no more than by guessing."""
    if labels.ndim > 1 or (labels < 0).any():
        return None
    counts = np.bincount(labels)
    counts, classes = counts[counts > 0], max(logits.shape[1], 2)
    if len(counts) < 2:  # a single class may be answered rightly by a model that tells nothing
        return None
    right = answered(logits, labels)[0] == labels
    found = np.mean([right[labels == c].mean() for c in np.unique(labels)])
    chance = 1 / classes
    error = np.sqrt(chance * (1 - chance) * (1 / counts).sum()) / len(counts)
    return int(right.sum()) if found + 2 * error <= (1 + chance) / 2 else None
