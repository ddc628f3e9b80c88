"""The field of Eq. 4 on large pixel grids, such as an X-ray at its native resolution.

Convention:
    Coordinates run from the first to the last pixel centre on every grid, whatever its size, so the
    parameters that were found on a small grid mean the same field on a large one.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from bfjax.field.clipping import clip
from bfjax.field.mirrors import halves
from bfjax.field.polynomial import Terms, polynomial
from bfjax.field.polynomial_tps import Border, Polynomial, PolynomialTPSParams, specified
from bfjax.field.tps import control_grid, lattice, spline_weights
from bfjax.numbers import Number, with_numbers
from bfjax.types import Field, LogField


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Chunks:
    polynomial: Polynomial
    size: int


def chunked_polynomial_tps(
    shape: tuple[int, int],
    *,
    degree: int = 10,
    min_degree: int = 1,
    grid_size: int = 16,
    terms: Terms = "literal",
    border: Border = "clamp",
    extent: tuple[Number, Number] = (-1.0, 1.0),
    dtype: DTypeLike = jnp.float32,
    chunk_size: int = 2**14,
) -> Field:
    """The field of `polynomial_tps` in chunks of pixels, without its warp matrix (Eq. 4).

    T_θ(p) = p + Σ_k w_k U(|p − c_k|) + A p + b, where w, A and b are linear in θ − θ0. The matrix
    of `polynomial_tps` has a row a pixel, 3 GB at 2000 × 1500; here the kernels of `chunk_size`
    pixels are made, used and forgotten. The control grid is its own mirror image, so the kernels of
    one quarter of the image serve all four. One compilation serves images of all sizes.

    In float32 the sum over kernels, which are larger than the displacements they make, costs three
    digits of the warp; in float64 (`jax.enable_x64`) the two fields agree to rounding. Gradients
    with respect to the parameters are there, but an attack is faster with `polynomial_tps`.

    Args:
      shape: (h, w) of the image.
      degree: D, the largest total degree.
      min_degree: D0; lower degrees are left out, as `terms` reads it.
      grid_size: control points along each axis, at least 2.
      terms: which monomials Eq. 4 keeps, see `bfjax.field.exponents`.
      border: as for `polynomial_tps`.
      extent: coordinates of the first and the last pixel centre, on both axes.
      dtype: of parameters and field, float32 or float64.
      chunk_size: pixels whose kernels are held at once, chunk_size · grid_size² numbers.

    Returns:
      A `Field` whose params are `PolynomialTPSParams`, those of `polynomial_tps` at any size.

    Raises:
      ValueError: for a shape, degree, grid size, reading, border, extent or chunk size that makes
        no field.

    Example:
      >>> from bfjax.field import polynomial_tps
      >>> small = polynomial_tps((8, 8), degree=3, grid_size=3)
      >>> params = small.init()._replace(coefficients=jnp.ones(3))
      >>> large = chunked_polynomial_tps((300, 200), degree=3, grid_size=3).log_field(params)
      >>> large.shape, bool(jnp.allclose(large[::299, ::199], small.log_field(params)[::7, ::7]))
      ((300, 200), True)

    Reference: Tian et al., ICME 2021, Eq. 4.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    spec = specified(
        shape,
        degree=degree,
        min_degree=min_degree,
        grid_size=grid_size,
        terms=terms,
        border=border,
        extent=extent,
        dtype=dtype,
    )
    low, high = extent
    chunks = _Chunks(spec, chunk_size)
    return Field(
        init=with_numbers(Partial(Polynomial.identity, spec), low=low, high=high),
        log_field=with_numbers(Partial(_log_field, chunks), low=low, high=high),
    )


def _log_field(chunks: _Chunks, params: PolynomialTPSParams, *, low: Any, high: Any) -> LogField:
    spec = chunks.polynomial
    height, width = spec.shape
    rows, columns = halves(spec.shape)
    dtype = params.coefficients.dtype
    grid = spec.identity(low=low, high=high).control_points
    displacement = params.control_points - grid.astype(dtype)
    solution = jnp.asarray(spline_weights(spec.grid_size), dtype)
    weights = jnp.matmul(solution, displacement, precision="highest")
    points = lattice(height, width).reshape(height, width, 2)[:rows, :columns].reshape(-1, 2)
    missing = -len(points) % chunks.size
    points = np.pad(points, ((0, missing), (0, 0))).reshape(-1, chunks.size, 2)
    kind = dataclasses.replace(spec, shape=(1, 1))  # one program for all sizes
    parts = [
        _mirrored(kind, params.coefficients, weights, p, low, high) for p in points.astype(dtype)
    ]
    quarters = jnp.concatenate(parts, axis=1)[:, : rows * columns].reshape(2, 2, rows, columns)
    # each mirrored back; a middle row or column is there twice
    upper, lower = (
        jnp.concatenate([left, right[:, ::-1][:, width % 2 :]], axis=1) for left, right in quarters
    )
    return jnp.concatenate([upper, lower[::-1][height % 2 :]])


@partial(jax.jit, static_argnums=0)
def _mirrored(
    spec: Polynomial,
    coefficients: Float[Array, " n"],
    weights: Float[Array, "k 2"],
    points: Float[Array | np.ndarray, "pixels 2"],
    low: Float[Array, ""] | float,
    high: Float[Array, ""] | float,
) -> Float[Array, "4 pixels"]:
    """B̂ at some points (x, y) of [-1, 1]², and at (−x, y), (x, −y), (−x, −y)."""
    controls = jnp.asarray(control_grid(spec.grid_size), points.dtype)
    squared = jnp.sum((points[:, None] - controls[None]) ** 2, axis=-1)
    kernel = squared * jnp.log(jnp.where(squared > 0, squared, 1.0))
    # |(−x, y) − c| = |(x, y) − c'|, with c' the mirror image of c
    of_grid = weights[:-3].reshape(spec.grid_size, spec.grid_size, 2)
    signs = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
    mirrored = jnp.stack([of_grid[::y, ::x].reshape(-1, 2) for x, y in signs])
    p = points[None] * jnp.asarray(signs, points.dtype)[:, None]
    bent = jnp.einsum("pk,mkc->mpc", kernel, mirrored, precision="highest")
    tilted = (
        jnp.einsum("mpd,dc->mpc", p, weights[-2:], precision="highest") + weights[None, None, -3]
    )
    warped = (low + high) / 2 + (high - low) / 2 * p + bent + tilted
    if spec.border == "clamp":
        warped = clip(jnp.asarray(warped), low, high)
    x, y = jnp.moveaxis(warped, -1, 0)
    return polynomial(coefficients, x, y, exponents=spec.exponents)
