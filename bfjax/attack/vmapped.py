"""The functions of `bfjax.attack.loop` on a batch, compiled: what both runners drive."""

from __future__ import annotations

import jax

from bfjax.attack import loop


@jax.jit
def init(attack, images, keys):
    """`loop.init` of a batch; keys is None, or has one of each image."""
    if keys is None:
        return jax.vmap(lambda x: loop.init(attack, x))(images)
    return jax.vmap(lambda x, k: loop.init(attack, x, key=k))(images, keys)


@jax.jit
def step(attack, predict, images, labels, state):
    """`loop.step` of a batch."""
    return jax.vmap(lambda x, y, s: loop.step(attack, predict, x, y, s))(images, labels, state)


@jax.jit
def finish(attack, predict, images, labels, state, trace):
    """`loop.finish` of a batch."""
    return jax.vmap(lambda x, y, s, t: loop.finish(attack, predict, x, y, s, t))(
        images, labels, state, trace
    )
