"""Projections that bound the log field itself, |B̂| or max B̂ − min B̂, and keep it smooth.

A clip at every pixel would leave plateaus with edges between them. These move the parameters
instead, so what they return is a field of the same kind: they scale it, or take the nearest one
that is within the bounds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Scalar

from bfjax.field.nearest import nearest_within
from bfjax.field.perturbation import check_field
from bfjax.field.polynomial_tps import PolynomialTPSParams
from bfjax.numbers import Number, check_numbers, of_one_image, with_numbers
from bfjax.types import Field, Image, LinearField, LogField, Params, as_pytree

# the level of the range is free, but a singular system is none
_WEIGHT_OF_LEVEL = 1e-6


def limit_log_field(field: Field, maximum: Number) -> Partial:
    """A projection that bounds |B̂| by scaling instead of clipping, so the field stays smooth.

    For a `bfjax.LinearField`: c ← c · min(1, h / max|B̂|). For `polynomial_tps`, whose field is
    linear in its coefficients, the same with these. For `pixelwise`, which is its own parameters
    and not smooth anyway, B̂ is clipped to ±h.

    Where the field is too large at one pixel, all of it shrinks, although a smaller change would
    do: see `onto_sampled_bounds`.

    Args:
      field: the field of the attack.
      maximum: h > 0, the largest |B̂| allowed.

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: when `maximum` is not positive, or for another kind of field.

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax.field import pixelwise
      >>> project = limit_log_field(pixelwise((1, 1)), 0.25)
      >>> project(jnp.asarray([[1.0]]), jnp.ones((1, 1, 1)))
      Array([[0.25]], dtype=float32)
    """
    return _limit(field, maximum, _largest, _clipped)


def limit_log_range(field: Field, maximum: Number) -> Partial:
    """A projection that bounds max B̂ − min B̂ by scaling, so the field stays smooth.

    As `limit_log_field`: c ← c · min(1, ρ / (max B̂ − min B̂)). `pixelwise` is clipped, to ρ / 2
    on both sides of the middle between its largest and its smallest value.

    A constant has no range: it is not bounded where the field has one. As there,
    `onto_sampled_bounds` loses less.

    Args:
      field: the field of the attack.
      maximum: ρ > 0, the largest difference of B̂ between two pixels that is allowed.

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: when `maximum` is not positive, or for another kind of field.

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax.field import legendre
      >>> field = legendre((8, 8), degree=1)
      >>> c = limit_log_range(field, 0.4)(jnp.ones(2), jnp.ones((8, 8, 1)))
      >>> round(float(jnp.ptp(field.log_field(c))), 4)
      0.4
    """
    return _limit(field, maximum, jnp.ptp, _clipped_about_the_middle)


def onto_sampled_bounds(
    field: Field,
    *,
    max_log_field: Number | None = None,
    max_log_range: Number | None = None,
    size: int = 33,
    num_iterations: int = 15,
) -> Partial:
    """A projection onto the nearest linear field that is within the bounds on a lattice of pixels.

    c ← argmin ‖c' − c‖₂ subject to |B̂(p)| ≤ h, max B̂(p) − min B̂(p) ≤ ρ, or both, for all p of
    size × size pixels, the borders included. For an orthonormal basis the distance is the root mean
    square of the change of B̂. Where single pixels are too large, it lowers the field there, and
    keeps what scaling would lose elsewhere.

    The range is bounded through a free level t: |B̂(p) − t| ≤ ρ / 2. Both bounds are then walls
    around the origin of (c, t), and an interior-point method finds the nearest point between them
    in the same few iterations for all images. What it finds is scaled as by `limit_log_field`, so
    that the bounds hold at all pixels of the image; where scaling alone would end nearer, that is
    taken. A field that is within the bounds stays exactly as it is.

    Args:
      field: a `bfjax.LinearField`.
      max_log_field: h > 0, the largest |B̂|, or `None`.
      max_log_range: ρ > 0, the largest difference of B̂ between two pixels, or `None`.
      size: of the lattice, in pixels along each axis, at least 2; an image that is smaller is taken
        whole.
      num_iterations: of the method, at least 1; 15 find c to 0.05 % in nine cases of ten, to 0.5 %
        in all that were tried, in single precision.

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: for a field that is not linear, a bound that is not positive, no bound at all, a
        lattice or a number of iterations that is too small.

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax.field import legendre
      >>> field = legendre((8, 8), degree=2)
      >>> c, image = jnp.ones(5), jnp.ones((8, 8, 1))
      >>> nearest = onto_sampled_bounds(field, max_log_field=0.4)(c, image)
      >>> scaled = limit_log_field(field, 0.4)(c, image)
      >>> bool(jnp.linalg.norm(nearest - c) < jnp.linalg.norm(scaled - c))
      True

    Reference: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 16 (the method).
    """
    bounds = {"max_log_field": max_log_field, "max_log_range": max_log_range}
    check_numbers(above=0, below=math.inf, optional=True, **bounds)
    if max_log_field is None and max_log_range is None:
        raise ValueError("nothing is bounded: give max_log_field, max_log_range or both")
    for name, value, least in (("size", size, 2), ("num_iterations", num_iterations, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not isinstance(field, LinearField):
        raise ValueError(
            "onto_sampled_bounds needs a bfjax.LinearField, such as legendre or cosine, "
            f"got {type(field).__name__}; limit_log_field scales polynomial_tps"
        )
    field = as_pytree(field)
    levels = tuple(
        level for level, bound in ((0, max_log_field), (-1, max_log_range)) if bound is not None
    )
    rows = _rows(field, size, levels)
    iterations = _Iterations(num_iterations)
    return with_numbers(Partial(_onto_bounds, iterations, rows, field.log_field), **bounds)


def _limit(field: Field, maximum: Number, measure: Callable, clipped: Callable) -> Partial:
    check_numbers(above=0, below=math.inf, maximum=maximum)
    field = as_pytree(check_field(field))
    scaled = Partial(_scaled, Partial(measure), field.log_field)
    return with_numbers(Partial(clipped) if _is_free(field) else scaled, maximum=maximum)


def _is_free(field: Field) -> bool:
    """Whether a field is its own parameters; those that are not are linear, or refused."""
    field = of_one_image(field)
    start = jax.eval_shape(field.init)
    if isinstance(field, LinearField) or isinstance(start, PolynomialTPSParams):
        return False
    kind = type(start).__name__
    if isinstance(start, jax.ShapeDtypeStruct):
        program = jax.make_jaxpr(field.log_field)(start).jaxpr
        if program.outvars == program.invars:
            return True
        kind = "one array"
    raise ValueError(
        "only a bfjax.LinearField, polynomial_tps and pixelwise can be bounded by scaling, "
        f"got a {type(field).__name__} whose params are {kind}"
    )


def _largest(log_field: LogField) -> Scalar:
    return jnp.max(jnp.abs(log_field))


def _scaled(
    measure: Callable[[LogField], Scalar],
    log_field_of: Callable[[Params], LogField],
    params: Params,
    image: Image,
    *,
    maximum: Any,
) -> Params:
    del image
    scale = _scale(measure(log_field_of(params)), maximum)
    if isinstance(params, PolynomialTPSParams):
        return params._replace(coefficients=_times(params.coefficients, scale))
    return _times(params, scale)


def _scale(size: Scalar, maximum: Any) -> Scalar:
    return maximum / jnp.maximum(size, maximum)


def _times(coefficients: Float[Array, " n"], scale: Scalar) -> Float[Array, " n"]:
    return (coefficients * scale).astype(coefficients.dtype)  # a number may be of a wider type


def _clipped(params: LogField, image: Image, *, maximum: Any) -> LogField:
    del image
    return jnp.clip(params, -maximum, maximum).astype(params.dtype)


def _clipped_about_the_middle(params: LogField, image: Image, *, maximum: Any) -> LogField:
    del image
    middle = (jnp.max(params) + jnp.min(params)) / 2
    return jnp.clip(params, middle - maximum / 2, middle + maximum / 2).astype(params.dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Iterations:
    number: int


@functools.partial(jax.jit, static_argnums=(1, 2))
def _rows(field: LinearField, size: int, levels: tuple[int, ...]) -> Float[Array, "rows m"]:
    """±(B̂(p) + level · t) of (c, t) for each pixel p of the lattice, one level after the other."""
    basis = jax.eval_shape(field.basis)
    number, *shape = basis.shape
    y, x = (np.unique(np.round(np.linspace(0, n - 1, size)).astype(int)) for n in shape)

    def sampled(unit: Float[Array, " n"]) -> Float[Array, " pixels"]:
        return field.log_field(unit)[np.ix_(y, x)].ravel()

    # one image after the other, since all at once may be large
    table = jax.lax.map(sampled, jnp.eye(number, dtype=basis.dtype)).T
    with_level = [jnp.pad(table, ((0, 0), (0, 1)), constant_values=level) for level in levels]
    return jnp.concatenate([sign * part for part in with_level for sign in (1, -1)])


def _onto_bounds(
    iterations: _Iterations,
    rows: Float[Array, "rows m"],
    log_field_of: Callable[[Params], LogField],
    params: Float[Array, " n"],
    image: Image,
    *,
    max_log_field: Any,
    max_log_range: Any,
) -> Float[Array, " n"]:
    del image
    both = ((_largest, max_log_field, 1), (jnp.ptp, max_log_range, 2))
    bounds = [(measure, maximum, part) for measure, maximum, part in both if maximum is not None]

    def within(c: Float[Array, " n"]) -> Float[Array, " n"]:
        log_field = log_field_of(c)
        scales = [_scale(measure(log_field), maximum) for measure, maximum, _ in bounds]
        return _times(c, functools.reduce(jnp.minimum, scales))

    limits = jnp.stack([jnp.asarray(maximum / part, params.dtype) for _, maximum, part in bounds])
    weights = jnp.ones(rows.shape[1], params.dtype)
    if max_log_range is not None:
        weights = weights.at[-1].set(_WEIGHT_OF_LEVEL)
    nearest = nearest_within(
        jnp.pad(params, (0, 1)),
        weights,
        rows,
        jnp.repeat(limits, len(rows) // len(limits)),
        num_iterations=iterations.number,
    )
    nearest, scaled = within(nearest[:-1]), within(params)
    nearer = jnp.sum((nearest - params) ** 2) < jnp.sum((scaled - params) ** 2)
    return jnp.where(nearer, nearest, scaled)
