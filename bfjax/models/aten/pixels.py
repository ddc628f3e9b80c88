"""Means over all pixels, and gates for all pixels, on activations (..., h, w, c).

A sum over pixels adds a few rows elementwise first: LLVM vectorises that, while it leaves the
reduction of a product scalar (three to four times slower). The gradient of a gate is such a sum.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Float[Array, "*batch h w c"]
Gate = Float[Array, "*batch 1 1 c"]


def pixel_sum(x: Activation) -> Gate:
    """The sum over all pixels.

    Args:
      x: (..., h, w, c).

    Returns:
      (..., 1, 1, c).

    Example:
      >>> pixel_sum(jnp.ones((2, 6, 5, 3))).shape
      (2, 1, 1, 3)
    """
    *batch, h, w, c = x.shape
    rows = max(n for n in range(1, 9) if h % n == 0)
    x = x.reshape(*batch, rows, h // rows, w, c)
    rest = functools.reduce(jnp.add, (x[..., r, :, :, :] for r in range(rows)))
    return rest.sum((-3, -2), keepdims=True)


def pixel_mean(x: Activation) -> Gate:
    """The mean over all pixels.

    Args:
      x: (..., h, w, c).

    Returns:
      (..., 1, 1, c).

    Example:
      >>> pixel_mean(jnp.arange(4.0).reshape(2, 2, 1)).tolist()
      [[[1.5]]]
    """
    return pixel_sum(x) / (x.shape[-3] * x.shape[-2])


@jax.custom_vjp
def gated(x: Activation, gate: Gate) -> Activation:
    """``x · gate``, the same for all pixels.

    It differentiates in reverse mode.

    Args:
      x: (..., h, w, c).
      gate: (..., 1, 1, c).

    Returns:
      (..., h, w, c).

    Example:
      >>> gated(jnp.ones((2, 2, 1)), jnp.full((1, 1, 1), 3.0)).sum().item()
      12.0
    """
    return x * gate


def _forward(x: Array, gate: Array) -> tuple[Array, Any]:
    return x * gate, (x, gate)


def _backward(saved: Any, g: Array) -> tuple[Array, Array]:
    x, gate = saved
    return g * gate, pixel_sum(g * x)


gated.defvjp(_forward, _backward)


def is_gate(x: Array, gate: Array) -> bool:
    """Whether `gated` computes their product."""
    *batch, h, w, c = x.shape
    return x.ndim == 4 and h * w > 1 and gate.shape == (*batch, 1, 1, c) and x.dtype == gate.dtype
