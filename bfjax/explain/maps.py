"""What maps say together: their mean, where it lies, and how far two of them agree.

Convention:
    A map is (h, w), larger where the classifier is more sensitive. Equal pixels are equal: where
    only some of them fit into a top fraction, all of them belong to it by the same part, so no
    answer depends on the order in which pixels are stored.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Scalar

Map = Float[Array, "h w"]


class Shares(NamedTuple):
    """How much of a map lies in each third of the image's height; the three sum to one."""

    top: Scalar
    middle: Scalar
    bottom: Scalar


def upsample(mask: Float[Array, "m n"], shape: tuple[int, int]) -> Map:
    """A mask at the size of the image, bilinearly, pixel areas aligned and the border repeated.

    Args:
      mask: (m, n), not larger than the image.
      shape: (h, w) of the image.

    Returns:
      (h, w), within the mask's range up to rounding.

    Raises:
      ValueError: for a mask larger than the image.

    Example:
      >>> upsample(jnp.asarray([[0.0, 1.0]]), (1, 4)).tolist()
      [[0.0, 0.25, 0.75, 1.0]]
    """
    if mask.shape[0] > shape[0] or mask.shape[1] > shape[1]:
        raise ValueError(f"the mask {mask.shape} is larger than the image {shape}")
    return jax.image.resize(mask, shape, "linear")


def mean_map(
    maps: Float[Array | np.ndarray, "n h w"],
    *,
    selected: Bool[Array | np.ndarray, " n"] | None = None,
) -> Map:
    """The mean of many images' maps, for instance of those that fool the classifier.

    Args:
      maps: (n, h, w).
      selected: (n,), the images that count; all of them by default. Maps of the others may hold
        anything, NaN too.

    Returns:
      (h, w); NaN where no image counts: a mean of nothing, unlike a map of zeros, says nothing.

    Raises:
      ValueError: unless there is one boolean for each map.

    Example:
      >>> maps = jnp.asarray([[[0.25]], [[0.75]]])
      >>> mean_map(maps).item(), mean_map(maps, selected=jnp.asarray([False, True])).item()
      (0.5, 0.75)
    """
    maps = jnp.asarray(maps)
    chosen = jnp.ones(len(maps), bool) if selected is None else jnp.asarray(selected, bool)
    if chosen.shape != maps.shape[:1]:
        raise ValueError(f"one boolean a map, got {chosen.shape} for {maps.shape}")
    return jnp.where(chosen[:, None, None], maps, 0).sum(0) / chosen.sum()


def shares(sensitivity: Map) -> Shares:
    """How much of a (mean) map lies in the top, the middle and the bottom third of the image.

    A row that a boundary between thirds cuts counts on both sides, by area: a flat map has exactly
    a third in each.

    Args:
      sensitivity: (h, w), not negative.

    Returns:
      Three numbers whose sum is one; NaN for a map of zeros.

    Example:
      >>> [round(float(part), 3) for part in shares(jnp.asarray([[3.0], [0.0], [0.0], [1.0]]))]
      [0.75, 0.0, 0.25]
    """
    h = sensitivity.shape[0]
    row, third = np.arange(h), np.arange(3)[:, None] * h / 3
    inside = np.clip(np.minimum(row + 1, third + h / 3) - np.maximum(row, third), 0, 1)
    rows = sensitivity.astype(jnp.promote_types(sensitivity.dtype, jnp.float32)).sum(1)
    parts = (jnp.asarray(inside, rows.dtype) * rows[None]).sum(1)
    return Shares(*(parts / rows.sum()))


def spearman(one: Map, other: Map) -> Scalar:
    """Spearman's rank correlation ρ of two maps, equal pixels sharing their mean rank.

    Args:
      one: (h, w), for instance one classifier's mean map.
      other: (h, w), another classifier's.

    Returns:
      ρ in [-1, 1]; NaN where a map is flat.

    Raises:
      ValueError: when traced, for maps of different shapes.

    Example:
      >>> ramp = jnp.arange(6.0).reshape(2, 3)
      >>> round(spearman(ramp, jnp.exp(ramp)).item(), 6), round(spearman(ramp, -ramp).item(), 6)
      (1.0, -1.0)
    """
    check_same(one, other)

    def centred_rank(x):
        below, above = standing(x)  # twice the mean rank, counted from the middle, as a fraction
        return (below - above) / x.size

    x, y = centred_rank(one), centred_rank(other)
    return jnp.sum(x * y) / jnp.sqrt(jnp.sum(x * x) * jnp.sum(y * y))


def overlap(one: Map, other: Map, *, fraction: float = 0.2) -> Scalar:
    """Intersection over union of two maps' most sensitive pixels.

    Args:
      one: (h, w).
      other: (h, w).
      fraction: how many pixels are compared, of all of them, as in `top_fraction`. Larger than the
        part of the image where a map is not 0, it compares the zeros too.

    Returns:
      Σ min / Σ max of the two memberships, in [0, 1]: the IoU, equal pixels shared. NaN where a
      value is NaN.

    Raises:
      ValueError: when traced, for maps of different shapes; as `top_fraction` does.

    Example:
      >>> one, other = jnp.asarray([[3.0, 2.0, 1.0, 0.0]]), jnp.asarray([[3.0, 1.0, 2.0, 0.0]])
      >>> round(overlap(one, other, fraction=0.5).item(), 6)
      0.333333
    """
    check_same(one, other)
    x, y = (top_fraction(sensitivity, fraction=fraction) for sensitivity in (one, other))
    return jnp.minimum(x, y).sum() / jnp.maximum(x, y).sum()


def top_fraction(sensitivity: Map, *, fraction: float) -> Map:
    """The most sensitive pixels.

    Args:
      sensitivity: (h, w).
      fraction: how many, of all pixels, rounded to whole pixels, at least one.

    Returns:
      (h, w), 1 for a pixel that belongs to them and 0 for one that does not; of equal pixels of
      which only some fit, each belongs by the part that fits. NaN where a value is NaN.

    Raises:
      ValueError: for a fraction outside (0, 1].

    Example:
      >>> top_fraction(jnp.asarray([[0.9, 0.1, 0.1, 0.0]]), fraction=0.5).tolist()
      [[1.0, 0.5, 0.5, 0.0]]
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    kept = membership(standing(sensitivity), max(1, round(fraction * sensitivity.size)))
    return jnp.where(jnp.isnan(sensitivity).any(), jnp.nan, kept)


def standing(sensitivity: Map) -> tuple[Int[Array, "h w"], Int[Array, "h w"]]:
    """For each pixel, how many are smaller and how many are larger.

    Args:
      sensitivity: (h, w).

    Returns:
      Two arrays (h, w).

    Example:
      >>> [x.tolist() for x in standing(jnp.asarray([[0.9, 0.1, 0.1, 0.0]]))]
      [[[3, 1, 1, 0]], [[0, 1, 1, 3]]]
    """
    rising = jnp.sort(sensitivity.ravel())
    below = jnp.searchsorted(rising, sensitivity, side="left")
    return below, sensitivity.size - jnp.searchsorted(rising, sensitivity, side="right")


def membership(
    ranks: tuple[Int[Array, "h w"], Int[Array, "h w"]], count: int | Int[Array, ""]
) -> Map:
    """By how much each pixel belongs to the `count` largest, see `top_fraction`.

    Args:
      ranks: from `standing`.
      count: a number of pixels.

    Returns:
      (h, w) in [0, 1], with the sum `count`.

    Example:
      >>> membership(standing(jnp.asarray([[0.9, 0.1, 0.1, 0.0]])), 2).tolist()
      [[1.0, 0.5, 0.5, 0.0]]
    """
    below, above = ranks
    equal = below.size - below - above
    return jnp.clip((count - above) / equal, 0, 1)


def check_same(one: Array | np.ndarray, other: Array | np.ndarray) -> None:
    """Raises ValueError, when traced, unless both have the same shape.

    Args:
      one: an array.
      other: another.

    Raises:
      ValueError: naming the shapes.

    Example:
      >>> check_same(jnp.ones((2, 3)), jnp.ones((2, 3)))
    """
    if one.shape != other.shape:
        raise ValueError(f"shapes differ: {one.shape} and {other.shape}")
