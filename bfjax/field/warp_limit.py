"""A warp that does not fold: its displacement is scaled until the warp can be inverted."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.field.perturbation import check_field
from bfjax.field.polynomial_tps import PolynomialTPSParams
from bfjax.field.tps import lattice, spline_gradient
from bfjax.numbers import Number, check_numbers, of_one_image, with_numbers
from bfjax.types import Field, Image, as_pytree

_FINER = 4  # intervals of the lattice for each of the control grid


def limit_warp(field: Field, *, maximum: Number = 0.9) -> Partial:
    """A projection that keeps the warp of `polynomial_tps` from folding.

    θ ← θ0 + s (θ − θ0), s = min(1, L / max‖∇u‖), u = T_θ − identity the displacement and ‖∇u‖ the
    largest singular value of its slopes (∂u/∂x, ∂u/∂y). Two points are moved towards each other by
    at most ‖∇u‖ times their distance, so with ‖∇u‖ < 1 they stay apart and in order: the warp has
    an inverse, and det ∂T_θ/∂p > 0. The displacement is linear in θ, so scaling holds the bound
    exactly.

    The slopes are the spline's analytic ones on a lattice four times finer than the control grid,
    the control points included. Between them they are a few hundredths larger, hence 0.9. The warp
    is meant before `border="clamp"`, which holds all of the image beyond the border at its edge.

    Args:
      field: of `polynomial_tps` or `chunked_polynomial_tps`.
      maximum: L, in (0, 1).

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: for another kind of field, or a maximum that is not in (0, 1).

    Example:
      >>> from bfjax.field import polynomial_tps
      >>> field = polynomial_tps((8, 8), degree=2, grid_size=2)
      >>> params = field.init()
      >>> flipped = params._replace(control_points=-params.control_points)
      >>> limit_warp(field)(flipped, jnp.ones((8, 8, 1))).control_points[0].round(3).tolist()
      [-0.1..., -0.1...]

    Reference: the fixed-point theorem of Banach, for p ↦ q − u(p), whose fixed point is what the
    warp sends to q.
    """
    check_numbers(above=0, below=1, maximum=maximum)
    field = as_pytree(check_field(field))
    start = jax.eval_shape(of_one_image(field).init)
    if not isinstance(start, PolynomialTPSParams):
        raise ValueError("limit_warp limits the warp of polynomial_tps; this field has none")
    points = start.control_points
    slopes = jnp.asarray(_slopes(round(points.shape[0] ** 0.5)), points.dtype)
    return with_numbers(Partial(_limit_warp, field.init, slopes), maximum=maximum)


@lru_cache(maxsize=8)
def _slopes(grid_size: int) -> np.ndarray:
    side = _FINER * (grid_size - 1) + 1
    slopes = spline_gradient(lattice(side, side), grid_size)
    slopes.flags.writeable = False
    return slopes


def _limit_warp(
    identity: Any,
    slopes: Float[Array, "2 p k"],
    params: PolynomialTPSParams,
    image: Image,
    *,
    maximum: Any,
) -> PolynomialTPSParams:
    del image
    start = identity().control_points
    away = params.control_points - start
    half = (start[-1, 0] - start[0, 0]) / 2  # of the extent: the slopes are those of [-1, 1]
    (ux, vx), (uy, vy) = jnp.einsum("dpk,kc->dcp", slopes, away / half, precision="highest")
    largest = jnp.max(_spectral_norm(ux, uy, vx, vy))
    scaled = start + away * (maximum / jnp.maximum(largest, maximum)).astype(away.dtype)
    # as they are, bit for bit, where there is nothing to do
    kept = jnp.where(largest > maximum, scaled, params.control_points)
    return params._replace(control_points=kept)


def _spectral_norm(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The largest singular value of [[a, b], [c, d]]; its slope is 0 where it is 0."""
    return (_length(a + d, c - b) + _length(a - d, b + c)) / 2


def _length(x: Array, y: Array) -> Array:
    squared = x * x + y * y
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
