"""The functions of `bfjax.attack.loop` on a batch, compiled: what both runners drive.

Numbers of an attack that have one value for each image are mapped along with the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from bfjax.attack import loop
from bfjax.numbers import axes_of_images


@jax.jit
def init(attack, images, keys):
    """`loop.init` of a batch; keys is None, or has one of each image."""
    return _mapped(lambda a, x, k: loop.init(a, x, key=k), attack, images, keys)


@jax.jit
def step(attack, predict, images, labels, state):
    """`loop.step` of a batch."""
    return _mapped(lambda a, x, y, s: loop.step(a, predict, x, y, s), attack, images, labels, state)


@jax.jit
def finish(attack, predict, images, labels, state, trace):
    """`loop.finish` of a batch."""
    return _mapped(
        lambda a, x, y, s, t: loop.finish(a, predict, x, y, s, t),
        *(attack, images, labels, state, trace),
    )


@jax.jit
def search(attack, predict, images, labels, keys):
    """The result of a search, and what the model says of the clean images."""
    clean = jax.vmap(predict)(images)
    found = _mapped(
        lambda a, x, y, k: loop.run(a, predict, x, y, key=k), attack, images, labels, keys
    )
    return found, clean


def _mapped(function: Callable[..., Any], attack: Any, *batches: Any) -> Any:
    """`jax.vmap(function)(attack, *batches)`; of the attack, numbers of each image are mapped."""
    leaves, structure = jax.tree.flatten(attack)

    def one(leaves: Any, *rest: Any) -> Any:
        return function(structure.unflatten(leaves), *rest)

    axes = (axes_of_images(attack), *[0] * len(batches))
    return jax.vmap(one, in_axes=axes)(leaves, *batches)
