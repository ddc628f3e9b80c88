"""From which probability on the last of two classes is the answer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Integer

from bfjax.evaluation.classes import of_classes
from bfjax.types import Image, Logits, Predict, as_pytree

_SUREST, _LEAST = 36.0, -700.0  # log-odds whose probability float64 tells from 1, and from 0


def at_threshold(predict: Predict, threshold: float) -> Predict:
    """A classifier of two classes whose last logit is raised so that it wins from a probability on.

    Args:
      predict: of one logit, or two.
      threshold: τ in (0, 1); log((1 − τ)/τ) is added.

    Returns:
      The classifier; the same one for a half.

    Raises:
      ValueError: for another threshold; when traced, for other classes.

    Example:
      >>> strict = at_threshold(lambda x: jnp.stack([0 * x.sum(), x.mean()]), 0.9)
      >>> strict(jnp.ones((2, 2, 1))).argmax().item()
      0
    """
    if not 0 < threshold < 1:
        raise ValueError(f"--threshold must be between 0 and 1, got {threshold}")
    if threshold == 0.5:
        return predict
    return Partial(_raised, as_pytree(predict), jnp.float32(_offset(threshold)))


def _offset(threshold: float) -> float:
    return float(np.float32(np.log((1 - threshold) / threshold)))


def _raised(predict: Any, offset: Any, image: Image) -> Logits:
    logits = predict(image)
    if logits.shape[0] > 2:
        raise ValueError(f"--threshold is for two classes, the model has {logits.shape[0]}")
    return logits.at[-1].add(offset)


def lowered(logits: Float[np.ndarray, "n k"], threshold: float) -> Float[np.ndarray, "n k"]:
    """What the model itself said, of answers of `at_threshold`.

    Args:
      logits: (n, k); at the threshold of a half of any number of classes.
      threshold: τ.

    Returns:
      The logits before the last was raised.

    Example:
      >>> lowered(np.array([[0.0, 1.0]]), 0.5).tolist()
      [[0.0, 1.0]]
    """
    own = np.array(logits, np.float64)
    own[:, -1] -= _offset(threshold)
    return own


def keeping(
    logits: Float[np.ndarray, "n k"], labels: Integer[np.ndarray, " n"], sensitivity: float
) -> float:
    """The highest threshold at which a share of the last of two classes is found.

    Args:
      logits: (n, k) of one or two classes, without light.
      labels: (n,), 0 or 1.
      sensitivity: the share, in (0, 1].

    Returns:
      τ in (0, 1), just below the probability of the last image that has to be found, or that of a
      logit of 36, next to which float64 knows no more.

    Raises:
      ValueError: for another share, other classes, without an image of the last class, or where τ
        would be 0.

    Example:
      >>> logits = np.array([[0.0, 3.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.5]])
      >>> round(keeping(logits, np.array([1, 1, 1, 0]), 0.6), 3)
      0.731
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"--sensitivity must be a share, above 0 and at most 1, got {sensitivity}")
    logits = of_classes(logits)
    if logits.shape[1] != 2:
        raise ValueError(f"--sensitivity is for two classes, the model has {logits.shape[1]}")
    steps = np.sort((logits[:, 1] - logits[:, 0])[labels == 1].astype(np.float64))
    if not len(steps):
        raise ValueError("--sensitivity needs images of the last class, there is none")
    lost = int(np.floor((1 - sensitivity) * len(steps) + 1e-9))
    # a little lower: what is just found must not be lost to rounding
    odds = min(steps[lost] - 1e-4, _SUREST)
    if odds < _LEAST:
        raise ValueError(
            f"--sensitivity {sensitivity:g} needs a threshold of 0, logits of {odds:g}: "
            "divide the model's logits by a constant"
        )
    found = 1 / (1 + np.exp(-odds))
    while np.log(found / (1 - found)) > odds:  # near 1 the next number is far
        found = np.nextafter(found, 0)
    return float(found)
