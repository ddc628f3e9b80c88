"""Constructors of `Field`: the paper's distortion-aware polynomial (Eq. 4), and one value a pixel.

Write your own: a pair of pure functions, `init() -> params` and `log_field(params) -> (h, w)`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from bfjax.field.clipping import clip
from bfjax.field.mirrors import folded_warp, folded_warp_matrix
from bfjax.field.polynomial import Exponents, Terms, exponents, polynomial
from bfjax.field.tps import control_grid, lattice
from bfjax.numbers import Number, check_numbers, known, with_numbers
from bfjax.types import Field, LogField

Border = Literal["clamp", "free"]
"""Where a warped coordinate may go: no farther than the image, or anywhere."""


class PolynomialTPSParams(NamedTuple):
    """The parameters of `polynomial_tps`.

    Attributes:
      coefficients: (n,), a of Eq. 4, ordered by t, then l.
      control_points: (grid_size², 2), θ: where the warp sends each point of the regular grid,
        (x, y) pairs in row-major order, y outer and x inner.
    """

    coefficients: Float[Array, " n"]
    control_points: Float[Array, "k 2"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Polynomial:
    """What is static of the field of Eq. 4, however it is evaluated; made by `specified`."""

    exponents: Exponents
    shape: tuple[int, int]
    grid_size: int
    border: Border
    dtype: str

    def identity(self, *, low: Any, high: Any) -> PolynomialTPSParams:
        """The parameters of the field that changes nothing: a = 0, θ = θ0."""
        return PolynomialTPSParams(
            coefficients=jnp.zeros(len(self.exponents), self.dtype),
            control_points=self.within(control_grid(self.grid_size), low=low, high=high),
        )

    def within(self, points: Any, *, low: Any, high: Any) -> Array:
        """Points of [-1, 1]² in the coordinates of an extent; exactly themselves in [-1, 1]²."""
        points = jnp.asarray(points, self.dtype)
        return ((low + high) / 2 + (high - low) / 2 * points).astype(self.dtype)


def specified(
    shape: tuple[int, ...],
    *,
    degree: int,
    min_degree: int,
    grid_size: int,
    terms: Terms,
    border: Border,
    extent: tuple[Number, Number],
    dtype: DTypeLike,
) -> Polynomial:
    """The options of `polynomial_tps`, checked.

    Raises:
      ValueError: as `polynomial_tps`.
    """
    control_grid(grid_size)  # raises for sizes that make none
    if border not in get_args(Border):
        raise ValueError(f"border must be one of {get_args(Border)}, got {border!r}")
    if len(extent) != 2:
        raise ValueError(f"extent is the first and the last coordinate, got {extent}")
    for end in extent:
        check_numbers(above=-math.inf, below=math.inf, extent=end)
    low, high = map(known, extent)
    if low is not None and high is not None and not np.all(low < high):
        raise ValueError(f"the first coordinate must be below the last, got {low} and {high}")
    return Polynomial(
        exponents=exponents(degree, min_degree, terms=terms),
        shape=check_shape(shape),
        grid_size=grid_size,
        border=border,
        dtype=check_dtype(dtype),
    )


def polynomial_tps(
    shape: tuple[int, int],
    *,
    degree: int = 10,
    min_degree: int = 1,
    grid_size: int = 16,
    terms: Terms = "literal",
    border: Border = "clamp",
    extent: tuple[Number, Number] = (-1.0, 1.0),
    dtype: DTypeLike = jnp.float32,
) -> Field:
    """The distortion-aware multivariate polynomial, a smooth log field (Eq. 4).

    B̂_i = Σ_t Σ_l a_{t,l} · T_θ(x_i)^t · T_θ(y_i)^l, where the thin-plate spline T_θ sends the
    control points of a regular grid to θ. The identity is a = 0, θ = θ0.

    A warped coordinate that leaves the image would meet powers such as 1.6¹⁰ = 110. Clamped to it,
    |B̂| is at most ‖a‖₁ (with an extent within [−1, 1]), and beyond its border the field goes on as
    it is there. That the warp does not fold is for `limit_warp` to hold.

    Args:
      shape: (h, w) of the image.
      degree: D, the largest total degree.
      min_degree: D0; lower degrees are left out, as `terms` reads it.
      grid_size: control points along each axis, at least 2.
      terms: which monomials Eq. 4 keeps, see `bfjax.field.exponents`.
      border: `"clamp"` keeps the warped coordinates in the image, with the full gradient up to its
        border and none beyond; `"free"` lets them leave it.
      extent: coordinates of the first and the last pixel centre, on both axes.
      dtype: of parameters and field, float32 or float64.

    Returns:
      A `Field` whose params are `PolynomialTPSParams`.

    Raises:
      ValueError: for a shape, degree, grid size, reading, border or extent that makes no
        field.

    Example:
      >>> field = polynomial_tps((32, 48), degree=4, grid_size=4)
      >>> params = field.init()
      >>> params.coefficients.shape, params.control_points.shape
      ((6,), (16, 2))
      >>> field.log_field(params).shape
      (32, 48)

    Reference: Tian et al., ICME 2021, Eq. 4.
    """
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
    # A spline commutes with shifting and scaling both axes alike: one matrix serves every extent.
    matrix = jax.device_put(folded_warp_matrix(spec.shape, grid_size).astype(dtype))
    low, high = extent
    return Field(
        init=with_numbers(Partial(Polynomial.identity, spec), low=low, high=high),
        log_field=with_numbers(Partial(_log_polynomial, spec, matrix), low=low, high=high),
    )


def _log_polynomial(
    spec: Polynomial,
    matrix: Float[Array, "4 q k"],
    params: PolynomialTPSParams,
    *,
    low: Any,
    high: Any,
) -> LogField:
    centres = lattice(*spec.shape).reshape(*spec.shape, 2)
    displacement = params.control_points - spec.identity(low=low, high=high).control_points
    moved = folded_warp(matrix, spec.shape, displacement.reshape(*[spec.grid_size] * 2, 2))
    x = spec.within(centres[:1, :, 0], low=low, high=high) + moved[0]
    y = spec.within(centres[:, :1, 1], low=low, high=high) + moved[1]
    if spec.border == "clamp":
        x, y = (clip(v, low, high).astype(v.dtype) for v in (x, y))
    return polynomial(params.coefficients, x, y, exponents=spec.exponents)


def pixelwise(shape: tuple[int, int], *, dtype: DTypeLike = jnp.float32) -> Field:
    """A free log field, one value a pixel: B̂ of Eq. 3, which comes out noise-like.

    Args:
      shape: (h, w) of the image.
      dtype: of the field.

    Returns:
      A `Field` whose params are B̂ itself, (h, w).

    Raises:
      ValueError: when the shape is not two positive sizes.

    Example:
      >>> field = pixelwise((2, 3))
      >>> field.log_field(field.init()).shape
      (2, 3)

    Reference: Tian et al., ICME 2021, Eq. 3.
    """
    return Field(
        init=Partial(_zeros, _Zeros(check_shape(shape), jnp.dtype(dtype).name)),
        log_field=Partial(itself),
    )


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Zeros:
    shape: tuple[int, int]
    dtype: str


def _zeros(spec: _Zeros) -> LogField:
    return jnp.zeros(spec.shape, spec.dtype)


def itself(params: LogField) -> LogField:
    """The log field of a free field: its parameters.

    Args:
      params: (h, w), B̂.

    Returns:
      B̂.

    Example:
      >>> itself(jnp.ones((1, 1))).item()
      1.0
    """
    return params


def check_dtype(dtype: DTypeLike) -> str:
    """The name of the type of a field.

    Args:
      dtype: what should be float32 or float64.

    Returns:
      The name.

    Raises:
      ValueError: for another.

    Example:
      >>> check_dtype(jnp.float32)
      'float32'
    """
    name = jnp.dtype(dtype).name
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, got {name}")
    return name


def check_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of a field, as two integers.

    Args:
      shape: what should be (h, w).

    Returns:
      (h, w).

    Raises:
      ValueError: when it is not two positive sizes.

    Example:
      >>> check_shape((3, 4))
      (3, 4)
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"a field needs a shape (h, w) of positive sizes, got {tuple(shape)}")
    return int(shape[0]), int(shape[1])
