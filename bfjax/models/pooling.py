r"""Pooling, in formulations whose gradients are fast on a CPU too.

Autodiff's gradient of a max-pool is select-and-scatter, which XLA's CPU backend runs window by
window: a sixth of ResNet50's whole gradient. Here the forward pass keeps, for each window, which
of its taps was the largest (one byte), and the backward pass is a gather. With padded input rows
R = s·M + φ, stride s and phase φ, the windows that hold R are i = M − d, there as tap s·d + φ:

    x̄[s·M + φ] = Σ_d ȳ[M − d] · [winner(M − d) = s·d + φ]

at most ⌈k/s⌉² windows for each pixel, and every pixel of a phase does the same.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from bfjax.models.convolution import Activation, Convolved, Padding, Pads, resolve_padding


def max_pool(x: Activation, *, window: int = 3, stride: int = 2, padding: Padding = 1) -> Convolved:
    """The largest value of each window; padding never wins.

    The gradient goes to the first maximum in row-major order, as XLA's and PyTorch's do. It
    differentiates in reverse mode, once.

    Args:
      x: (..., h, w, c), floating.
      window: rows and columns of a window.
      stride: of both axes.
      padding: see `bfjax.models.convolution`.

    Returns:
      (..., h', w', c), in the type of `x`.

    Raises:
      ValueError: the window does not fit the padded image, is larger than 11, or the padding is
        not smaller than the window.

    Example:
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> max_pool(x)[..., 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
      >>> jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((3, 3, 1)))[..., 0].tolist()
      [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if window > 11:
        raise ValueError(f"a window has at most 11 rows, for its taps to fit a byte, got {window}")
    pads = resolve_padding(padding, (x.shape[-3], x.shape[-2]), (window, window), stride)
    if max(map(max, pads)) >= window:
        raise ValueError(f"padding {padding} leaves windows of {window} without a pixel")
    return _max_pool(window, stride, pads, x)


def average_pool(x: Activation, *, window: int = 2) -> Convolved:
    """The mean of each window, side by side; rows and columns left over are dropped.

    Args:
      x: (..., h, w, c).
      window: rows and columns of a window.

    Returns:
      (..., ⌊h/window⌋, ⌊w/window⌋, c), in the type of `x`.

    Raises:
      ValueError: the image is smaller than a window.

    Example:
      >>> average_pool(jnp.arange(20.0).reshape(4, 5, 1))[..., 0].tolist()
      [[3.0, 5.0], [13.0, 15.0]]
    """
    *batch, h, w, c = x.shape
    if window < 1 or min(h, w) < window:
        raise ValueError(f"a window of {window} does not fit an image {x.shape}")
    rows, columns = h // window, w // window
    x = x[..., : rows * window, : columns * window, :]
    return x.reshape(*batch, rows, window, columns, window, c).mean((-4, -2))


def _pad(x: Array, value: float, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    widths = [(0, 0, 0)] * (x.ndim - 3) + [(*rows, 0), (*columns, 0), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), widths)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _max_pool(window: int, stride: int, pads: Pads, x: Array) -> Array:
    return _max_and_winner(window, stride, pads, x)[0]


def _max_and_winner(window: int, stride: int, pads: Pads, x: Array) -> tuple[Array, Array]:
    """The maxima, and the number (row-major) of the tap that each first came from."""
    x = _pad(x, -jnp.inf, *pads)
    h, w = x.shape[-3] - window + 1, x.shape[-2] - window + 1
    best = x[..., 0:h:stride, 0:w:stride, :]
    winner = jnp.zeros(best.shape, jnp.int8)
    for tap in range(1, window * window):
        k, m = divmod(tap, window)
        seen = x[..., k : k + h : stride, m : m + w : stride, :]
        larger = (seen > best) | (seen != seen)  # a NaN wins, so that it is not swallowed
        best = jnp.where(larger, seen, best)
        winner = jnp.where(larger, jnp.int8(tap), winner)
    return best, winner


def _max_pool_fwd(window: int, stride: int, pads: Pads, x: Array) -> tuple[Array, Any]:
    best, winner = _max_and_winner(window, stride, pads, x)
    return best, (winner, jnp.zeros((*x.shape[-3:-1], 0)))  # an empty array carries the size


def _max_pool_bwd(window: int, stride: int, pads: Pads, saved: Any, g: Array) -> tuple[Array]:
    winner, (h, w, _) = saved[0], saved[1].shape
    s, reach = stride, -(-window // stride)
    (top, _), (left, _) = pads
    my, mx = -(-(h + top) // s), -(-(w + left) // s)  # rows M that reach into the image
    rows = (reach - 1, my - g.shape[-3])
    columns = (reach - 1, mx - g.shape[-2])
    g, winner = _pad(g, 0, rows, columns), _pad(winner, -1, rows, columns)

    def phase(p: int, q: int) -> Array:
        total = jnp.zeros((*g.shape[:-3], my, mx, g.shape[-1]), g.dtype)
        for d in range(-(-(window - p) // s)):
            for e in range(-(-(window - q) // s)):
                y, z = reach - 1 - d, reach - 1 - e
                at = (..., slice(y, y + my), slice(z, z + mx), slice(None))
                won = winner[at] == (s * d + p) * window + s * e + q
                total = total + jnp.where(won, g[at], 0)
        return total

    phases = [jnp.stack([phase(p, q) for q in range(s)], axis=-2) for p in range(s)]
    full = jnp.stack(phases, axis=-4)
    full = full.reshape(*g.shape[:-3], my * s, mx * s, g.shape[-1])
    return (full[..., top : top + h, left : left + w, :],)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)
