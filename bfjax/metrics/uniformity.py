"""How strong a log bias field is, how steep, and how uneven the light that it stands for.

Convention:
    B̂ is (h, w); B = exp(B̂) multiplies the image. Pixels are square, and the width of an image is
    that from its first to its last pixel centre, as in the coordinates of the fields. None of these
    values depends on the resolution at which a smooth field is seen, but for its pixels' rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Scalar

from bfjax.metrics.smoothness import as_field, differences
from bfjax.types import LogField


def log_range(log_field: LogField) -> Scalar:
    """How much more the brightest pixel gets than the darkest, as a logarithm: max B̂ − min B̂.

    Args:
      log_field: B̂, (h, w).

    Returns:
      The range, ≥ 0, in units of B̂. A change of exposure, B̂ + c, leaves it as it is.

    Raises:
      ValueError: when traced, for a field that is not (h, w).

    Example:
      >>> log_range(jnp.asarray([[0.5, -0.25], [0.0, 0.0]])).item()
      0.75
    """
    field = as_field(log_field)
    return jnp.max(field) - jnp.min(field)


def root_mean_square(log_field: LogField) -> Scalar:
    """sqrt(mean(B̂²)), how far the field is from no field, B̂ = 0, over all pixels.

    Args:
      log_field: B̂, (h, w).

    Returns:
      The root mean square, ≥ 0, in units of B̂. Its gradient is zero at B̂ = 0.

    Raises:
      ValueError: when traced, for a field that is not (h, w).

    Example:
      >>> root_mean_square(jnp.asarray([[4.0, 2.0], [-2.0, -1.0]])).item()
      2.5
    """
    return _root(jnp.mean(as_field(log_field) ** 2))


def largest_slope(log_field: LogField) -> Scalar:
    """The largest ‖∇B̂‖, per width of the image on both axes.

    At each pixel (w − 1) · sqrt(d_x² + d_y²), with d_x and d_y the differences to the next pixel
    to the right and below, in the last column and row to the one before. A ramp that rises by s
    from the first pixel to the last has the slope s.

    Args:
      log_field: B̂, (h, w), at least 2 pixels high and wide.

    Returns:
      The slope, ≥ 0, in units of B̂ per width; of a field that is taller than wide, too. Its
      gradient is zero for a constant field.

    Raises:
      ValueError: when traced, for a field that is not (h, w), or smaller.

    Example:
      >>> round(largest_slope(jnp.tile(jnp.linspace(0, 3, 16), (8, 1))).item(), 3)
      3.0
    """
    field = as_field(log_field)
    height, width = field.shape
    if min(height, width) < 2:
        raise ValueError(f"a slope needs 2 x 2 pixels, got {field.shape}")
    across, down = differences(field)
    across = jnp.pad(across, ((0, 0), (0, 1)), mode="edge")
    down = jnp.pad(down, ((0, 1), (0, 0)), mode="edge")
    return (width - 1) * _root(jnp.max(across**2 + down**2))


class Nonuniformity(NamedTuple):
    """How uneven a field is, by the means B_i of its regions.

    Attributes:
      global_: (max B_i − min B_i) / mean B_i, ≥ 0.
      local: the largest |B_i − B_j| / mean B_i of two regions that share an edge, ≥ 0.
    """

    global_: Scalar
    local: Scalar


def nonuniformity(
    log_field: LogField, *, pixel_mm: float, region_mm: float = 10.0, border_mm: float = 10.0
) -> Nonuniformity:
    """Global and local signal non-uniformity of B = exp(B̂), in the manner of AAPM TG-150.

    B is looked at as an image of nothing but the light. Its border is dropped, the rest is divided
    into square regions. With B_i the mean of region i, global is (max B_i − min B_i) / mean B_i,
    local the largest |B_i − B_j| / mean B_i of neighbours, four to a region. TG-150 judges
    flat-field images so; here there is neither noise nor a detector.

    A pixel that an edge cuts counts in both regions, by its share. What is too narrow for a region
    is dropped on both sides. Regions that are smaller than a pixel see no more than pixels.

    Args:
      log_field: B̂, (h, w).
      pixel_mm: side of a pixel, in mm, > 0.
      region_mm: side of a region, in mm, > 0.
      border_mm: width of the border on each side, in mm, ≥ 0.

    Returns:
      Both as shares of the mean; a constant factor changes neither. Their gradients are zero for a
      constant field.

    Raises:
      ValueError: when traced, for a size that is none, a field that is not (h, w), or one with
        fewer than 2 x 2 regions.

    Example:
      >>> steps = jnp.log(jnp.repeat(jnp.asarray([1.0, 2.0, 3.0]), 10))
      >>> found = nonuniformity(jnp.tile(steps, (30, 1)), pixel_mm=1, border_mm=0)
      >>> [round(share.item(), 3) for share in found]
      [1.0, 0.5]

    Reference: the task group's draft as Dave, Gingold, Yorkston et al. implement it, Medical
    Physics 39 (6), 3648, 2012, doi 10.1118/1.4734818.
    """
    for name, size in (("pixel_mm", pixel_mm), ("region_mm", region_mm)):
        if not 0 < size < math.inf:
            raise ValueError(f"{name} must be positive, got {size}")
    if not 0 <= border_mm < math.inf:
        raise ValueError(f"border_mm must not be negative, got {border_mm}")
    field = as_field(log_field)
    rows, columns = (_regions(n, pixel_mm, region_mm, border_mm) for n in field.shape)
    if min(len(rows), len(columns)) < 2:
        raise ValueError(
            f"{field.shape[0]} x {field.shape[1]} pixels of {pixel_mm:g} mm have fewer than 2 x 2 "
            f"regions of {region_mm:g} mm inside a border of {border_mm:g} mm"
        )
    tall, wide = rows.any(axis=0), columns.any(axis=0)
    inside = field[tall][:, wide]
    # no factor matters to a ratio, so that exp cannot overflow, nor all of it vanish
    signal = jnp.exp(inside - jax.lax.stop_gradient(jnp.max(inside)))
    least = jax.lax.stop_gradient(jnp.min(signal))  # apart: a constant field is exactly even
    shares = rows[:, tall], columns[:, wide]
    above = jnp.einsum("ip,jq,pq->ij", *shares, signal - least, precision="highest")
    across, down = differences(above)
    # sign(d) d, not |d|: JAX gives |·| the slope 1 at 0
    largest = jnp.maximum(jnp.max(jnp.sign(across) * across), jnp.max(jnp.sign(down) * down))
    mean = least + jnp.mean(above)
    return Nonuniformity((jnp.max(above) - jnp.min(above)) / mean, largest / mean)


def _regions(
    pixels: int, pixel_mm: float, region_mm: float, border_mm: float
) -> Float[np.ndarray, "regions pixels"]:
    """Along one axis, what share of each region lies in each pixel."""
    length = pixels * pixel_mm
    # the tolerance: 41 regions are 41, also where w pixels of 430 / w mm are not quite 430 mm
    count = max(0, math.floor((length - 2 * border_mm) / region_mm + 1e-6))
    edges = (length - count * region_mm) / 2 + region_mm * np.arange(count + 1)
    left = pixel_mm * np.arange(pixels)
    right = np.minimum(edges[1:, None], left + pixel_mm)
    shares = np.maximum(right - np.maximum(edges[:-1, None], left), 0) / region_mm
    return np.where(shares > 1e-6, shares, 0)


def _root(square: Scalar) -> Scalar:
    """√, whose slope at 0 is taken to be zero."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
