"""Whether a map means anything: how fast the attack works when its pixels come in the map's order.

A map that means something makes the true label's score fall early in `deletion_curve` (a small
area) and rise early in `insertion_curve` (a large area): earlier than `random_map` and `centre_map`
do, the controls that have seen neither the classifier nor the attack.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from bfjax.explain.maps import Map, check_same, membership, standing, upsample
from bfjax.explain.score import probability
from bfjax.field import check_image
from bfjax.numbers import Number, check_numbers
from bfjax.types import Image, Label, Loss, Predict, PRNGKey, as_key


class Curve(NamedTuple):
    """The true label's score while the pixels of one image are replaced by those of another.

    Attributes:
      fractions: (num_points,), how much of the image is replaced, from 0 to 1.
      score: (num_points,), at each fraction.
      area: under the curve, by trapezoids; the mean score along the way.
    """

    fractions: Float[Array, " points"]
    score: Float[Array, " points"]
    area: Scalar


def deletion_curve(
    predict: Predict,
    image: Image,
    adversarial: Image,
    label: Label,
    sensitivity: Map,
    *,
    num_points: int = 21,
    score: Loss = probability,
) -> Curve:
    """The clean image is attacked pixel by pixel, the most sensitive first.

    Equal pixels are replaced together, blended by the part of them that the fraction holds: a flat
    map goes straight from X to X_a.

    Args:
      predict: the classifier; it need not be the one that the map was made with.
      image: X, (h, w, c) in [0, 1].
      adversarial: X_a, of the same shape.
      label: the true class y.
      sensitivity: (h, w), the map; only the order of its pixels matters.
      num_points: at how many evenly spaced fractions, 0 and 1 included.
      score: of the true label, as for `mask_attack`.

    Returns:
      A `Curve` from the score of X to that of X_a. The smaller its area, the better the map.

    Raises:
      ValueError: when traced, for shapes that do not fit, or fewer than two points.

    Example:
      >>> predict = lambda image: jnp.stack([9 * image[0, 0, 0], jnp.asarray(4.5)])  # one pixel
      >>> clean, attacked = jnp.ones((1, 4, 1)), jnp.zeros((1, 4, 1))
      >>> found = jnp.asarray([[1.0, 0.2, 0.1, 0.0]])
      >>> curve = deletion_curve(predict, clean, attacked, 0, found, num_points=3)
      >>> [round(float(score), 2) for score in curve.score]
      [0.99, 0.01, 0.01]

    Reference: Petsiuk et al., RISE: Randomized Input Sampling for Explanation, BMVC 2018, sec. 4.2.
    """
    check_image(image)
    check_same(image, adversarial)
    if sensitivity.shape != image.shape[:2]:
        raise ValueError(f"the map is {sensitivity.shape}, the image {image.shape}")
    if num_points < 2:
        raise ValueError(f"num_points must be at least 2, got {num_points}")
    ranks = standing(sensitivity)
    counts = np.rint(np.linspace(0, 1, num_points) * sensitivity.size).astype(int)

    def score_of(count):
        part = membership(ranks, count)[..., None]
        mixed = part * adversarial + (1 - part) * image
        return score(predict(mixed.astype(image.dtype)), label)

    # one after the other: under a vmap over images all points at once would be many batches
    scores = jax.lax.map(score_of, jnp.asarray(counts))
    fractions = jnp.asarray(counts / sensitivity.size, scores.dtype)
    return Curve(fractions, scores, jnp.trapezoid(scores, fractions))


def insertion_curve(
    predict: Predict,
    image: Image,
    adversarial: Image,
    label: Label,
    sensitivity: Map,
    *,
    num_points: int = 21,
    score: Loss = probability,
) -> Curve:
    """The reverse: the attacked image is restored pixel by pixel, the most sensitive first.

    Read from its end, this is the deletion curve of the reversed order, least sensitive first.

    Args:
      predict: as for `deletion_curve`.
      image: X, (h, w, c) in [0, 1].
      adversarial: X_a, of the same shape.
      label: the true class y.
      sensitivity: (h, w), the map.
      num_points: at how many evenly spaced fractions, 0 and 1 included.
      score: of the true label, as for `mask_attack`.

    Returns:
      A `Curve` from the score of X_a to that of X. The larger its area, the better the map.

    Raises:
      ValueError: as `deletion_curve` does.

    Example:
      >>> predict = lambda image: jnp.stack([9 * image[0, 0, 0], jnp.asarray(4.5)])
      >>> clean, attacked = jnp.ones((1, 4, 1)), jnp.zeros((1, 4, 1))
      >>> missed = jnp.asarray([[0.0, 0.2, 0.1, 1.0]])
      >>> curve = insertion_curve(predict, clean, attacked, 0, missed, num_points=3)
      >>> [round(float(score), 2) for score in curve.score]
      [0.01, 0.01, 0.99]
    """
    return deletion_curve(
        predict, adversarial, image, label, sensitivity, num_points=num_points, score=score
    )


def random_map(
    key: PRNGKey, shape: tuple[int, int], *, mask_size: tuple[int, int] | None = None
) -> Map:
    """A control: uniform noise.

    Args:
      key: of the drawing.
      shape: (h, w).
      mask_size: at which the noise is drawn, then upsampled as a mask is: a control as smooth as
        the map. `None` draws each pixel on its own.

    Returns:
      (h, w) in [0, 1], up to rounding.

    Raises:
      ValueError: for a mask larger than the image.

    Example:
      >>> random_map(jax.random.key(0), (8, 6), mask_size=(4, 3)).shape
      (8, 6)
    """
    return upsample(jax.random.uniform(as_key(key), mask_size or shape), shape)


def centre_map(shape: tuple[int, int], *, sigma: Number = 0.5) -> Map:
    """A control: a blob in the centre of the image, exp(−(x² + y²) / 2σ²).

    Args:
      shape: (h, w).
      sigma: its width, in coordinates (the image is 2 wide and 2 high).

    Returns:
      (h, w), its largest value at the centre.

    Raises:
      ValueError: for a sigma that is not positive.

    Example:
      >>> [round(float(x), 3) for x in centre_map((1, 3), sigma=1.0)[0]]
      [0.607, 1.0, 0.607]
    """
    check_numbers(above=0, sigma=sigma)
    y, x = ((2 * np.arange(n) - (n - 1)) / max(n - 1, 1) for n in shape)
    squared = jnp.asarray(y[:, None] ** 2 + x**2, jnp.float32)
    return jnp.exp(-squared / (2 * sigma**2))
