"""The worst light of each image: that of several searches together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Integer

from bfjax import storage
from bfjax.evaluation.classes import answered, of_classes
from bfjax.evaluation.standard.universal import OneLight


class Worst(NamedTuple):
    """What light was found for each of n images.

    Attributes:
      logits: (n, t, k), under the worst light within each of t log-ranges.
      smallest: (n,), the smallest log-range at which the image was found to be turned; 0 where it
        is wrong without light, infinite where no light was found.
      params: (n, p), c of that light.
      turned: (n, k), logits under it, or NaN where they were not stored.
    """

    logits: Float[np.ndarray, "n t k"]
    smallest: Float[np.ndarray, " n"]
    params: Float[np.ndarray, "n p"]
    turned: Float[np.ndarray, "n k"]


def of_table(table: pa.Table, tiers: int) -> Worst:
    """What the shards of an exposure hold.

    Args:
      table: the shards.
      tiers: how many log-ranges were tested.

    Returns:
      The same, as arrays.
    """
    logits = np.asarray(table["worst"].to_pylist()).reshape(len(table), tiers, -1)
    none = [np.nan] * logits.shape[2]  # older shards lack it
    stored = table["turned"].to_pylist() if "turned" in table.column_names else [None] * len(table)
    turned = [none if one is None else one for one in stored]
    return Worst(
        logits,
        np.asarray(table["smallest"].to_pylist(), np.float64),
        np.asarray(table[storage.PARAMS].to_pylist(), np.float32),
        np.asarray(turned, logits.dtype),
    )


def with_one_light(truth: Integer[np.ndarray, " n"], worst: Worst, lights: OneLight) -> Worst:
    """What was found for each image, or what one light for all does where that is worse.

    Args:
      truth: the classes.
      worst: what was found for each image.
      lights: one for all, of each log-range.

    Returns:
      Both together, never better for the model.
    """
    for t in range(worst.logits.shape[1]):
        logits = lights.logits[:, t]
        wrong = answered(logits, truth)[0] != truth
        smallest = np.where(wrong, lights.log_ranges[:, t], np.inf)
        within = np.arange(worst.logits.shape[1])[None, :, None] >= t
        answers = np.where(within, logits[:, None], worst.logits)
        worst = worse_of(truth, worst, Worst(answers, smallest, lights.params[:, t], logits))
    return worst


def worse_of(truth: Integer[np.ndarray, " n"], *found: Worst) -> Worst:
    """The worse for the model of what several searches found for each image.

    Args:
      truth: the classes.
      *found: by each, with params of one kind.

    Returns:
      What all of them found together.
    """
    logits, smallest, params, turned = map(np.copy, found[0])
    for other in found[1:]:
        less = other.smallest < smallest
        smallest[less], params[less] = other.smallest[less], other.params[less]
        turned[less] = other.turned[less]
        for t in range(logits.shape[1]):
            worse = _margin(other.logits[:, t], truth) > _margin(logits[:, t], truth)
            logits[worse, t] = other.logits[worse, t]
    return Worst(logits, smallest, params, turned)


def as_free(worst: Worst, exposure: str) -> Worst:
    """Light of one exposure, with the params of light whose exposure is free.

    Args:
      worst: what was found.
      exposure: `"fixed"`, whose params lack the constant, `"alone"`, which are nothing else, or
        `"free"`.

    Returns:
      The same, of params (n, 15).

    Example:
      >>> few = Worst(np.zeros((1, 1, 2)), np.ones(1), np.ones((1, 1)), np.zeros((1, 2)))
      >>> as_free(few, "alone").params.shape
      (1, 15)
    """
    missing = {"fixed": (1, 0), "alone": (0, 14), "free": (0, 0)}[exposure]
    return worst._replace(params=np.pad(worst.params, ((0, 0), missing)))


def _margin(logits: np.ndarray, truth: np.ndarray) -> Float[np.ndarray, " n"]:
    logits, rows = of_classes(logits), np.arange(len(truth))
    others = logits.astype(np.float64)
    others[rows, truth] = -np.inf
    return others.max(1) - logits[rows, truth]
