"""Balls around the start: where the parameters of an attack may lie, per image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.attack.transforms import Norm, check_norm, norm_of
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import Image, Params, as_pytree

Projection = Callable[[Params, Image], Params]


def onto_ball(
    delta: Float[Array, "*shape"], *, norm: Norm, radius: Number
) -> Float[Array, "*shape"]:
    """The point of the ball ‖·‖ ≤ radius nearest (in L2) to delta.

    L∞ clips; L2 scales; L1 shrinks every entry by the same amount until the sum fits.

    Args:
      delta: any shape.
      norm: `"linf"`, `"l2"` or `"l1"`, over all entries.
      radius: not negative.

    Returns:
      The same shape.

    Raises:
      ValueError: for another norm.

    Example:
      >>> onto_ball(jnp.asarray([3.0, 1.0]), norm="l1", radius=2.0).tolist()
      [2.0, 0.0]

    Reference: Duchi et al., Efficient Projections onto the l1-Ball, ICML 2008, Fig. 1.
    """
    if check_norm(norm) == "linf":
        return jnp.clip(delta, -radius, radius)
    if norm == "l2":
        size = norm_of(delta, "l2")
        return delta * jnp.where(size > radius, radius / jnp.maximum(size, radius), 1)
    # sums of many entries, and their number, exceed what 16 bits hold
    precise = jnp.abs(delta).astype(jnp.promote_types(delta.dtype, jnp.float32))
    falling = jnp.sort(precise.ravel())[::-1]
    over = (jnp.cumsum(falling) - radius) / jnp.arange(1, falling.size + 1)
    # the threshold of the last entry that stays above it (of the first, for a radius of 0)
    threshold = over[jnp.maximum(jnp.sum(falling > over) - 1, 0)]
    inside = norm_of(delta, "l1") <= radius
    shrunk = jnp.maximum(precise - threshold, 0).astype(delta.dtype)
    return jnp.where(inside, delta, jnp.sign(delta) * shrunk)


def in_turn(*projections: Projection) -> Partial:
    """Several projections, one after the other.

    Args:
      *projections: applied in this order, each `(params, image) -> params`.

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: for none, and for what is none.

    Example:
      >>> small = parameter_ball(norm="linf", radius=0.5)
      >>> both = in_turn(small, parameter_ball(norm="l1", radius=0.5))
      >>> both(jnp.ones(2), jnp.ones((1, 1, 1))).tolist()
      [0.25, 0.25]
    """
    if not projections or not all(map(callable, projections)):
        raise ValueError(f"in_turn needs projections, (params, image) -> params, got {projections}")
    return Partial(_in_turn, tuple(map(as_pytree, projections)))


def _in_turn(projections: tuple, params: Params, image: Image) -> Params:
    for project in projections:
        params = project(params, image)
    return params


def image_ball(*, norm: Norm, radius: Number) -> Partial:
    """For `additive`, whose params are the image: x ← clip(x0 + P(x − x0), 0, 1).

    Args:
      norm: of the ball.
      radius: ε, in units of the image's range [0, 1].

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: for another norm, or a negative radius.

    Example:
      >>> project = image_ball(norm="linf", radius=0.25)
      >>> project(jnp.ones((1, 1, 1)), jnp.full((1, 1, 1), 0.5)).item()
      0.75
    """
    check_numbers(at_least=0, radius=radius)
    return with_numbers(_IMAGE_BALLS[check_norm(norm)], radius=radius)


def parameter_ball(*, norm: Norm, radius: Number) -> Partial:
    """For parameters that start at zero, such as a free log field's: B̂ ← P(B̂) (Eq. 3).

    Args:
      norm: of the ball.
      radius: ε, in units of the log field.

    Returns:
      `(params, image) -> params`, for `Attack.project`.

    Raises:
      ValueError: for another norm, or a negative radius.

    Example:
      >>> parameter_ball(norm="linf", radius=0.25)(jnp.ones((1, 1)), jnp.ones((1, 1, 1))).item()
      0.25

    Reference: Tian et al., ICME 2021, Eq. 3.
    """
    check_numbers(at_least=0, radius=radius)
    return with_numbers(_PARAMETER_BALLS[check_norm(norm)], radius=radius)


def _image_ball(norm: Norm, params: Image, image: Image, *, radius: Any) -> Image:
    inside = image + onto_ball(params - image, norm=norm, radius=radius)
    return jnp.clip(inside, 0, 1)


def _parameter_ball(norm: Norm, params: Params, image: Image, *, radius: Any) -> Params:
    del image
    return jax.tree.map(lambda p: onto_ball(p, norm=norm, radius=radius), params)


# made once: equal attacks then hold the same function, and share a compilation
_IMAGE_BALLS = {norm: functools.partial(_image_ball, norm) for norm in get_args(Norm)}
_PARAMETER_BALLS = {norm: functools.partial(_parameter_ball, norm) for norm in get_args(Norm)}
