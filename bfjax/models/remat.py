"""Blocks that keep only their input for the gradient, and compute the rest once more.

`jax.checkpoint` does that too, but not on a CPU: XLA takes its barriers out early there, finds that
the block is computed twice, and keeps the first result. Here the second computation depends on the
cotangent, so that it is another one and cannot begin before its turn.

Reference:
    Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016,
    https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from bfjax.models.convolution import Activation, Convolved


def rematerialized(block: nnx.Module, x: Activation) -> Convolved:
    """A block in training, ``block(x, training=True)``, whose gradient takes less memory.

    It differentiates in reverse mode, once, with respect to the parameters and `x`.

    Args:
      block: a module that takes activations; its running averages are updated.
      x: (..., h, w, c).

    Returns:
      What the block returns.
    """
    graph, params, statistics = nnx.split(block, nnx.Param, ...)

    @jax.custom_vjp
    def run(params: Any, statistics: Any, x: Array) -> tuple[Array, Any]:
        module: Any = nnx.merge(graph, params, statistics, copy=True)
        y = module(x, training=True)
        return y, nnx.state(module, nnx.Not(nnx.Param))

    def forward(params: Any, statistics: Any, x: Array) -> tuple[Any, Any]:
        return run(params, statistics, x), (params, statistics, x)

    def backward(saved: Any, cotangents: Any) -> tuple[Any, Any, Array]:
        params, statistics, x = saved
        g, _ = cotangents  # the statistics only feed the running averages
        nothing = jnp.minimum(abs(g[(0,) * g.ndim]), 0)
        late = jax.tree.map(lambda p: p + nothing.astype(p.dtype), params)
        _, transpose = jax.vjp(lambda *given: run.fun(given[0], statistics, given[1])[0], late, x)
        params_bar, x_bar = transpose(g)
        return params_bar, jax.tree.map(jnp.zeros_like, statistics), x_bar

    run.defvjp(forward, backward)
    y, after = run(params, statistics, x)
    nnx.update(block, after)
    return y
