"""Steps of falling length: what finds the most within a bound, where signs run into its corners."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, Scalar

from bfjax.attack.transforms import Norm, check_norm, steepest, with_hyperparameters
from bfjax.numbers import Number, check_numbers
from bfjax.types import Params

_MOMENTUM = 0.75  # α of APGD
_ENOUGH = 0.75  # its ρ: the share of steps that must have raised the objective


def annealed(norm: Norm, step_size: Number, *, num_steps: int) -> optax.GradientTransformation:
    """Steepest steps whose length falls by a cosine: η_k = η (1 + cos(π k / K)) / 2.

    Args:
      norm: in which a step is measured, see `steepest`.
      step_size: η, the length of the first.
      num_steps: K, after which nothing moves any more.

    Returns:
      A transformation, handed the gradient of what is to be lowered.

    Raises:
      ValueError: for another norm, a length that is not positive, or fewer than one step.

    Example:
      >>> steps = annealed("l2", 1.0, num_steps=2)
      >>> g, state = jnp.asarray([2.0]), steps.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     update, state = steps.update(g, state)
      >>> update.round(3).tolist()
      [-0.5]

    Reference: Loshchilov and Hutter, SGDR, ICLR 2017, Eq. 5, without restarts.
    """
    check_numbers(above=0, below=math.inf, step_size=step_size)
    made = _annealed(check_norm(norm), _counted(num_steps))
    return with_hyperparameters(made, step_size=step_size)


@functools.cache  # one function: equal attacks share a compilation
def _annealed(norm: Norm, num_steps: int):
    def make(*, step_size: Any) -> optax.GradientTransformation:
        length = optax.cosine_decay_schedule(step_size, num_steps)
        return optax.chain(steepest(norm, 1.0), optax.scale_by_schedule(length))

    return make


class Halving(NamedTuple):
    """What `step_halving` carries.

    Attributes:
      count: steps taken.
      length: of the next one.
      best: the lowest value, where it was, and the gradient there.
      previous: what the step before started from.
      value: there.
      raised: steps since the last checkpoint that went further.
      checked: the length and the lowest value at the last checkpoint.
    """

    count: Int[Array, ""]
    length: Scalar
    best: tuple[Scalar, Params, Params]
    previous: Params
    value: Scalar
    raised: Int[Array, ""]
    checked: tuple[Scalar, Scalar]


def step_halving(norm: Norm, step_size: Number, *, num_steps: int) -> optax.GradientTransformation:
    """The steps of Auto-PGD: they halve, from the best iterate on, where they no longer gain.

    z = x_k + η d(∇), x_{k+1} = x_k + α (z − x_k) + (1 − α)(x_k − x_{k−1}), α = 0.75, d the
    direction of `steepest`. At checkpoints after 22, 41, 57, ... % of the steps η halves, and the
    search goes on at the best iterate, if fewer than 75 % of the steps since the last one gained,
    or if neither η nor the best value has changed since then. The projection of the attack is
    applied to the whole step. Within a bound on the field these steps find what `annealed` does
    (`experiments/results/bounds`); the union of an audit takes both.

    Args:
      norm: in which a step is measured.
      step_size: η of the first; Auto-PGD takes twice the radius of the ball.
      num_steps: of the whole attack.

    Returns:
      A transformation, handed the gradient and the value of what is to be lowered, as `bfjax.step`
      does.

    Raises:
      ValueError: for another norm, a length that is not positive, or fewer than one step.

    Example:
      >>> steps = step_halving("l2", 1.0, num_steps=10)
      >>> x = jnp.asarray([3.0])
      >>> state = steps.init(x)
      >>> for _ in range(10):
      ...     update, state = steps.update(2 * x, state, x, value=x[0] ** 2)
      ...     x = x + update
      >>> bool(abs(state.best[1][0]) < 0.3)
      True

    Reference: Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020, Alg. 1.
    """
    check_numbers(above=0, below=math.inf, step_size=step_size)
    made = _halving(check_norm(norm), _counted(num_steps))
    return with_hyperparameters(made, step_size=step_size)


@functools.cache
def _halving(norm: Norm, num_steps: int):
    marks = _checkpoints(num_steps)
    spans = np.zeros(num_steps, np.int32)  # before each step: how many a checkpoint looks back on
    for before, here in itertools.pairwise(marks[:-1]):
        spans[here] = here - before

    def make(*, step_size: Any) -> optax.GradientTransformationExtraArgs:
        def update(
            updates: Any, state: Any, params: Any = None, **extra: Any
        ) -> tuple[Any, Halving]:
            if "value" not in extra:
                raise ValueError("step_halving needs the value too: update(..., value=...)")
            return _step(norm, spans, updates, state, params, extra["value"])

        return optax.GradientTransformationExtraArgs(
            functools.partial(_start, step_size=step_size), update
        )

    return make


def _start(params: Params, *, step_size: Any) -> Halving:
    length, high = jnp.asarray(step_size, jnp.float32), jnp.asarray(jnp.inf, jnp.float32)
    best = (high, params, jax.tree.map(jnp.zeros_like, params))
    return Halving(jnp.asarray(0), length, best, params, high, jnp.asarray(0), (length, high))


def _step(
    norm: Norm, spans: np.ndarray, gradient: Params, state: Halving, params: Params, value: Any
) -> tuple[Params, Halving]:
    value = value.astype(jnp.float32)
    best = _where(value < state.best[0], (value, params, gradient), state.best)
    raised = state.raised + ((state.count > 0) & (value < state.value))

    span = jnp.asarray(spans)[jnp.minimum(state.count, len(spans) - 1)]
    looked = span > 0
    unchanged = (state.length == state.checked[0]) & (best[0] == state.checked[1])
    halve = looked & ((raised < _ENOUGH * span) | unchanged)
    length = jnp.where(halve, state.length / 2, state.length)

    base, slope = _where(halve, best[1:], (params, gradient))
    previous = _where(halve, base, state.previous)
    direction: Any = steepest(norm, 1.0).update(slope, optax.EmptyState())[0]
    alpha = jnp.where(state.count > 0, _MOMENTUM, 1.0)

    def moved(b: Array, d: Array, p: Array, x: Array) -> Array:
        return (b + alpha * length * d + (1 - alpha) * (b - p) - x).astype(x.dtype)

    return jax.tree.map(moved, base, direction, previous, params), Halving(
        count=state.count + 1,
        length=length,
        best=best,
        previous=base,
        value=jnp.where(halve, best[0], value),
        raised=jnp.where(looked, 0, raised),
        checked=_where(looked, (state.length, best[0]), state.checked),
    )


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return jax.tree.map(functools.partial(jnp.where, condition), yes, no)


def _checkpoints(num_steps: int) -> list[int]:
    """Steps before which the length is looked at: 0, then shares of the whole that come nearer."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    marks = (int(np.ceil(round(share * num_steps, 9))) for share in shares)
    return sorted({min(mark, num_steps) for mark in marks})


def _counted(num_steps: int) -> int:
    if not isinstance(num_steps, int | np.integer) or num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, and whole, got {num_steps}")
    return num_steps
