"""A dense block of a frozen DenseNet in one buffer, which nothing copies.

Every layer reads all channels so far and adds a few: written as concatenations, a block of n layers
copies its first channels n times, and keeps all copies for its gradient. Here the layers write side
by side into one buffer that is as wide as the block's output, and the gradient is accumulated in
another: since no channel changes once it is written, the last state of the buffer tells what every
layer saw.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bfjax.models.convolution import Activation, Convolved, conv2d, per_channel


class FrozenLayer(NamedTuple):
    """The numbers of a dense layer, ``conv(relu(W relu(γ x + β) + b))``.

    Attributes:
      gain: γ, (c,).
      shift: β, (c,).
      reduce: W, (1, 1, c, bottleneck).
      bias: b, (bottleneck,).
      grow: of the convolution, (3, 3, bottleneck, growth).
    """

    gain: Float[Array, " c"]
    shift: Float[Array, " c"]
    reduce: Float[Array, "1 1 c b"]
    bias: Float[Array, " b"]
    grow: Float[Array, "3 3 b growth"]


@jax.custom_vjp
def dense_block(x: Activation, layers: list[FrozenLayer]) -> Convolved:
    """All layers of a block.

    It differentiates in reverse mode, once, with respect to `x` alone: gradients of the layers,
    which are frozen, are NaN.

    Args:
      x: (..., h, w, c).
      layers: each takes all channels before it.

    Returns:
      (..., h, w, c + growth · layers), in the type of `x`.

    Example:
      >>> scale, reduce = (jnp.ones(2), jnp.zeros(2)), (jnp.ones((1, 1, 2, 4)), jnp.zeros(4))
      >>> one = FrozenLayer(*scale, *reduce, grow=jnp.ones((3, 3, 4, 1)))
      >>> dense_block(jnp.ones((1, 1, 2)), [one]).tolist()
      [[[1.0, 1.0, 8.0]]]
    """
    return _forward(x, layers)[0]


def _forward(x: Array, layers: list[FrozenLayer]) -> tuple[Array, Any]:
    growth = layers[0].grow.shape[-1]
    wider = [(0, 0, 0)] * (x.ndim - 1) + [(0, growth * len(layers), 0)]
    buffer = jax.lax.pad(x, jnp.zeros((), x.dtype), wider)
    active: list[Bool[Array, ...]] = []
    for one in layers:
        c = len(one.gain)
        y = _linear(jax.nn.relu(_scaled(buffer, one)), one.reduce) + per_channel(one.bias, x)
        active.append(y > 0)
        new = conv2d(jax.nn.relu(y), one.grow.astype(x.dtype))
        buffer = buffer.at[..., c : c + growth].set(new)
    return buffer, (buffer, active, layers)


def _backward(saved: Any, g: Array) -> tuple[Array, list[FrozenLayer]]:
    buffer, active, layers = saved
    for one, is_active in zip(reversed(layers), reversed(active), strict=True):
        c, growth = len(one.gain), one.grow.shape[-1]
        back = _transposed(one.grow.astype(g.dtype), g[..., c : c + growth], is_active)
        back = _linear(back, one.reduce.swapaxes(2, 3))
        seen = jnp.where(_scaled(buffer, one) > 0, back * per_channel(one.gain, back), 0)
        g = g.at[..., :c].add(seen)
    none = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), layers)
    return g[..., : len(layers[0].gain)], none


dense_block.defvjp(_forward, _backward)


def _scaled(buffer: Array, one: FrozenLayer) -> Array:
    seen = buffer[..., : len(one.gain)]
    return seen * per_channel(one.gain, seen) + per_channel(one.shift, seen)


def _linear(x: Array, kernel: Array) -> Array:
    return conv2d(x, kernel.astype(x.dtype))


def _transposed(kernel: Array, g: Array, is_active: Array) -> Array:
    """The input gradient of relu and a convolution."""
    shape = jnp.zeros(is_active.shape, g.dtype)
    (back,) = jax.vjp(lambda x: conv2d(x, kernel), shape)[1](g)
    return jnp.where(is_active, back, 0)
