"""What an audit compiles: functions of one image, mapped over batches of one size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bfjax.attack import is_wrong
from bfjax.robustness.random_search import margin_of
from bfjax.robustness.smallest_range import finish as last
from bfjax.robustness.smallest_range import start as first
from bfjax.robustness.smallest_range import step as once
from bfjax.robustness.worst_case import attacks_within
from bfjax.types import Attack


def batches(chosen: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of images, filled up to whole batches, and which of them count."""
    for at in range(0, len(chosen), batch_size):
        part = chosen[at : at + batch_size]
        yield np.resize(part, batch_size), np.arange(batch_size) < len(part)


@jax.jit
def clean(threat: Any, predict: Any, images: Any, labels: Any) -> tuple[Array, Array]:
    """The answers, and how steep the margin is along the light."""

    def one(image, label):
        def margin(c):
            logits = predict(threat.perturbation.apply(c, image))
            return margin_of(logits, label), logits

        slope, logits = jax.grad(margin, has_aux=True)(threat.perturbation.init(image, None))
        return logits, jnp.abs(slope).max()

    return jax.vmap(one)(images, labels)


@jax.jit
def drawn(threat: Any, keys: Any) -> Array:
    """Random lights."""
    return jax.vmap(threat.draw)(keys)


@jax.jit
def lit(threat: Any, predict: Any, images: Any, params: Any) -> Array:
    """The answers under given lights."""
    return jax.vmap(lambda c, x: predict(threat.perturbation.apply(c, x)))(params, images)


HALVINGS = 8
"""Bisections that weaken a light."""


@jax.jit
def weakest(
    threat: Any, predict: Any, images: Any, labels: Any, params: Any
) -> tuple[Array, Array]:
    """Of each light that turns an image the weakest multiple found that does, and the answer."""

    def one(image: Array, label: Array, c: Array) -> tuple[Array, Array]:
        def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            middle = sum(ends) / 2
            errs = is_wrong(predict(threat.perturbation.apply(middle * c, image)), label)
            return (jnp.where(errs, ends[0], middle), jnp.where(errs, middle, ends[1])), None

        none, whole = jnp.zeros((), c.dtype), jnp.ones((), c.dtype)
        (_, least), _ = jax.lax.scan(halve, (none, whole), length=HALVINGS)
        return least * c, predict(threat.perturbation.apply(least * c, image))

    return jax.vmap(one)(images, labels, params)


@jax.jit
def start(threat: Any, images: Any) -> Any:
    """`smallest_range.start` of a batch."""
    return jax.vmap(first, (None, 0))(threat, images)


@jax.jit
def step(threat: Any, predict: Any, images: Any, labels: Any, state: Any, part: Any) -> Any:
    """`smallest_range.step` of a batch."""
    return jax.vmap(once, (None, None, 0, 0, 0, None))(threat, predict, images, labels, state, part)


@jax.jit
def finish(threat: Any, predict: Any, images: Any, labels: Any, state: Any) -> Any:
    """`smallest_range.finish` of a batch."""
    return jax.vmap(last, (None, None, 0, 0, 0))(threat, predict, images, labels, state)


def each_within(
    threat: Any, ranges: Array, *, findings: bool
) -> dict[str, Callable[[np.ndarray], Any]]:
    """`attacks_within`, each image within a range of its own, which `run_batch` takes as it is.

    Args:
      threat: of any range.
      ranges: (n,), those of all images.
      findings: as of `attacks_within`.

    Returns:
      Name to what gives, of the numbers of some images, the attack on them.
    """

    def made(rho: Any) -> Any:
        return attacks_within(threat.scaled(rho), findings=findings)

    one = made(jnp.float32(1))
    axes = jax.tree.map(lambda leaf: None if jnp.ndim(leaf) else 0, one)
    each = jax.vmap(made, out_axes=axes)(ranges)

    def chosen(name: str, images: np.ndarray) -> Any:
        def of(leaf: Any, like: Any) -> Any:
            return leaf if jnp.ndim(like) else leaf[images]

        return jax.tree.map(of, each[name], one[name])

    return {name: functools.partial(chosen, name) for name in one}


@jax.jit
def keys_within(key: Any, place: Any, number: Any, chosen: Any) -> Any:
    """Of an attack within a range on an image, whatever else is attacked."""

    def one(place: Any, chosen: Any) -> Any:
        within = jax.random.fold_in(key, place + 1)
        return jax.random.fold_in(jax.random.fold_in(within, number), chosen)

    return jax.vmap(one)(place, chosen)


def gradients(attack: Any, result: Any) -> np.ndarray:
    """Spent on each image of a batch; a step after which nothing changes is none."""
    if isinstance(attack, Attack):
        return (~np.asarray(result.trace.stopped)).sum(1)
    return np.full(len(result.logits), attack.max_gradients)
