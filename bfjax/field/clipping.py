"""Clipping that keeps the gradient on the closed interval: PyTorch's convention, for all fields.

`jnp.clip` passes half the gradient at a bound. Black borders of X-rays lie exactly on one, and so
do the outermost pixel centres of a field.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def clip(
    x: Float[Array, "*shape"],
    low: Float[Array, ...] | float,
    high: Float[Array, ...] | float,
) -> Float[Array, "*shape"]:
    """min(max(x, low), high), with the full gradient on the closed interval [low, high].

    Args:
      x: values; NaN stays NaN.
      low: lower bound, one or one for each value.
      high: upper bound, not below `low`.

    Returns:
      The clipped values.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> jax.grad(clip)(jnp.asarray(1.0), 0.0, 1.0).item()
      1.0
    """
    return jnp.where(x < low, low, jnp.where(x > high, high, x))
