"""The functions of `bfjax.attack.loop` on a batch, compiled: what both runners drive.

Numbers of an attack that have one value for each image are mapped along with the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bfjax.attack import loop
from bfjax.numbers import axes_of_images
from bfjax.types import AttackResult, Predict


@jax.jit
def init(attack, images, keys):
    """`loop.init` of a batch; keys is None, or has one of each image."""
    return _mapped(lambda a, x, k: loop.init(a, x, key=k), attack, images, keys)


@jax.jit
def step(attack, predict, images, labels, state):
    """`loop.step` of a batch."""
    return _mapped(lambda a, x, y, s: loop.step(a, predict, x, y, s), attack, images, labels, state)


@jax.jit
def side_by_side(infos):
    """The infos of all steps as one, with an axis of steps behind that of the images."""
    return jax.tree.map(lambda *steps: jnp.stack(steps, axis=1), *infos)


def finish(attack, predict, images, labels, state, trace):
    """`loop.finish` of a batch, by programs of the attack, and of the network `logits_of`."""
    adversarial = _perturbed(attack, images, state.params)
    logits = logits_of(predict, adversarial)
    params, flags = _decided(attack, labels, state, trace, logits)
    if attack.iterate == "best":
        adversarial = _perturbed(attack, images, params)
        logits = logits_of(predict, adversarial)
    return AttackResult(adversarial, params, logits, trace, flags)


@jax.jit
def _perturbed(attack, images, params):
    return _mapped(lambda a, x, p: a.perturbation.apply(p, x), attack, images, params)


@jax.jit
def _decided(attack, labels, state, trace, logits):
    return _mapped(loop.decided, attack, labels, state, trace, logits)


@jax.jit
def logits_of(
    predict: Predict, images: Float[Array, "batch h w c"]
) -> Float[Array, "batch classes"]:
    """What a classifier says of a batch, compiled once for all who ask.

    Args:
      predict: the classifier of one image, a pytree.
      images: (batch, h, w, c).

    Returns:
      (batch, classes).

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax import as_pytree
      >>> logits_of(as_pytree(lambda image: image[0, :2, 0]), jnp.ones((3, 4, 4, 1))).shape
      (3, 2)
    """
    return jax.vmap(predict)(images)


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
