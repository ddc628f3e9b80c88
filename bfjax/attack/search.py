"""Searches around an attack: the smallest ε that fools, the smallest step.

Each is a `Search`, run by `bfjax.run` and `bfjax.run_batch` like an `Attack`. Their loops run under
`jax.vmap` until the last image is done; a finished image is left as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Scalar

from bfjax.attack import loop
from bfjax.attack.objective import is_right, is_targeted, is_wrong
from bfjax.numbers import Number, check_numbers, has_numbers
from bfjax.types import (
    Attack,
    AttackResult,
    Image,
    Label,
    Logits,
    Params,
    Predict,
    PRNGKey,
    Search,
    as_key,
    as_pytree,
)


class SearchInfo(NamedTuple):
    """What a search for the smallest perturbation found.

    Attributes:
      epsilon: of the perturbation returned; 0 where the image was wrong from the start, NaN where
        none was found.
      distance: its mean squared difference from the image, by which the smallest is told.
    """

    epsilon: Scalar
    distance: Scalar


class _Found(NamedTuple):
    """The smallest perturbation that fools so far."""

    adversarial: Image
    params: Params
    logits: Logits
    info: SearchInfo


def _arrived(search: Search, logits: Logits, label: Label) -> Bool[Array, ""]:
    """Whether an image is what the search is after: wrong, or of the class that it aims at."""
    return is_right(logits, label) if is_targeted(search) else is_wrong(logits, label)


def _start(search: Search, predict: Predict, image: Image, label: Label, params: Params) -> _Found:
    """The image itself: found at once if it needs no attack."""
    logits = predict(image)
    there = _arrived(search, logits, label)
    info = SearchInfo(jnp.where(there, 0.0, jnp.nan), jnp.where(there, 0.0, jnp.inf))
    return _Found(image, params, logits, info)


def _smaller(found: _Found, new: _Found, fooled: Bool[Array, ""]) -> _Found:
    take = fooled & (new.info.distance < found.info.distance)
    return jax.tree.map(lambda n, f: jnp.where(take, n, f), new, found)


def _as_found(
    adversarial: Image, params: Params, logits: Logits, image: Image, epsilon: Scalar
) -> _Found:
    distance = jnp.mean(jnp.square(adversarial - image)).astype(jnp.float32)
    return _Found(adversarial, params, logits, SearchInfo(epsilon, distance))


def _result(found: _Found) -> AttackResult:
    return AttackResult(found.adversarial, found.params, found.logits, found.info)


@has_numbers("start", "growth", parts=("make",))
@dataclasses.dataclass(frozen=True)
class Minimal:
    """See `minimal`."""

    make: Callable[[Any], Attack]
    start: Number
    growth: Number
    num_tries: int
    num_bisections: int

    @property
    def max_gradients(self) -> int:
        """Of all tries and bisections."""
        return (self.num_tries + self.num_bisections) * self.make(self.start).max_gradients

    @property
    def targeted(self) -> bool:
        """Whether the attack is."""
        return is_targeted(self.make(self.start))

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image, see `minimal`."""
        key = as_key(key)

        def attempt(i: Any, epsilon: Scalar) -> tuple[_Found, Bool[Array, ""]]:
            drawn = None if key is None else jax.random.fold_in(key, i)
            result = loop.run(self.make(epsilon), predict, image, label, key=drawn)
            new = _as_found(result.adversarial, result.params, result.logits, image, epsilon)
            return new, _arrived(self, result.logits, label)

        def grow(carry):
            i, epsilon, found, _ = carry
            new, fooled = attempt(i, epsilon)
            larger = (epsilon * self.growth).astype(epsilon.dtype)  # growth may be of a wider type
            epsilon = jnp.where(fooled, epsilon, larger)
            return i + 1, epsilon, _smaller(found, new, fooled), fooled

        def halve(i, carry):
            good, bad, found = carry
            epsilon = (good + bad) / 2
            new, fooled = attempt(self.num_tries + i, epsilon)
            good, bad = jnp.where(fooled, epsilon, good), jnp.where(fooled, bad, epsilon)
            return good, bad, _smaller(found, new, fooled)

        start = jnp.asarray(self.start, jnp.float32)
        found = _start(
            self, predict, image, label, loop.init(self.make(start), image, key=key).params
        )
        clean = found.info.distance == 0
        _, good, found, _ = jax.lax.while_loop(
            lambda carry: (carry[0] < self.num_tries) & ~carry[3], grow, (0, start, found, clean)
        )
        searching = jnp.isfinite(found.info.distance) & ~clean
        _, _, better = jax.lax.fori_loop(
            0, self.num_bisections, halve, (good, jnp.zeros_like(good), found)
        )
        return _result(jax.tree.map(lambda n, f: jnp.where(searching, n, f), better, found))


def minimal(
    make: Callable[[Any], Attack],
    *,
    start: Number = 0.3,
    growth: Number = 1.5,
    num_tries: int = 20,
    num_bisections: int = 20,
) -> Minimal:
    """The smallest ε at which an attack fools the classifier, by growing and then bisecting it.

    From `start`, ε grows by `growth` until the attack fools, then the interval between 0 and that
    ε is halved again and again. Of all perturbations that fooled, the one nearest to the image (in
    mean square) is returned; the image itself where it is wrong when clean, or where none was
    found. This is what foolbox up to 2.4 did by default.

    Args:
      make: ε, a traced scalar, to the attack; let it stop early, to return its first success.
      start: the first ε.
      growth: factor between tries.
      num_tries: how often it may grow.
      num_bisections: how often it is halved.

    Returns:
      A `Search`, whose result's `trace` is a `SearchInfo`.

    Raises:
      ValueError: for a start that is not positive, a growth below 1 or a number below 0.

    Example:
      >>> import bfjax
      >>> predict = lambda x: jnp.stack([x.mean() - 0.3, 0.3 - x.mean()])
      >>> search = minimal(lambda eps: bfjax.attacks.fgsm(epsilon=eps), num_bisections=12)
      >>> result = bfjax.run(search, predict, jnp.full((2, 2, 1), 0.5), 0)
      >>> round(float(result.trace.epsilon), 3)
      0.2
    """
    check_numbers(above=0, start=start)
    check_numbers(at_least=1, growth=growth)
    check_numbers(at_least=0, num_tries=num_tries, num_bisections=num_bisections)
    return Minimal(as_pytree(make), start, growth, num_tries, num_bisections)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SmallestStep:
    """See `smallest_step`."""

    attack: Attack
    num_steps: int = dataclasses.field(metadata={"static": True})
    num_finer: int = dataclasses.field(metadata={"static": True})

    @property
    def max_gradients(self) -> int:
        """One, and the forward passes of all lengths."""
        return 1 + (self.num_steps + self.num_finer) // 3

    @property
    def targeted(self) -> bool:
        """Whether the attack is."""
        return is_targeted(self.attack)

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image, see `smallest_step`."""
        attack = self.attack
        state = loop.init(attack, image, key=as_key(key))

        def lowered(params):
            return -attack.loss(predict(attack.perturbation.apply(params, image)), label)

        gradient = jax.grad(lowered)(state.params)
        direction, _ = attack.optimizer.update(gradient, state.opt_state, state.params)

        def at(epsilon: Scalar) -> tuple[_Found, Bool[Array, ""]]:
            step = jax.tree.map(lambda d: epsilon * d, direction)
            params = optax.apply_updates(state.params, step)
            if attack.project is not None:
                params = loop.as_before(params, attack.project(params, image))
            adversarial = attack.perturbation.apply(params, image)
            logits = predict(adversarial)
            new = _as_found(adversarial, params, logits, image, epsilon)
            return new, _arrived(self, logits, label)

        def first(longest: Any, count: int, found: _Found, done: Bool[Array, ""]):
            """The shortest of `count` even steps up to `longest` that fools, and its number."""

            def advance(carry):
                i, found, _ = carry
                new, fooled = at(longest * (i + 1) / count)
                found = jax.tree.map(lambda n, f: jnp.where(fooled, n, f), new, found)
                return i + 1, found, fooled

            return jax.lax.while_loop(
                lambda carry: (carry[0] < count) & ~carry[2], advance, (0, found, done)
            )

        found = _start(self, predict, image, label, state.params)
        clean = found.info.distance == 0
        tries, found, fooled = first(jnp.float32(1), self.num_steps, found, clean)
        coarse = clean | ~fooled | (tries > self.num_finer)
        return _result(first(found.info.epsilon, self.num_finer, found, coarse)[1])


def smallest_step(attack: Attack, *, num_steps: int = 1000, num_finer: int = 20) -> SmallestStep:
    """The shortest of many steps along an attack's first one that fools the classifier.

    The gradient is computed once. Lengths 1/n, 2/n, … 1 of the attack's own step are tried, each
    projected as the attack says; if one of the first `num_finer` fools, as many shorter ones are
    tried. This is what foolbox up to 2.4 did by default for FGSM. The image itself is returned
    where it is wrong when clean, or where no step fools.

    Args:
      attack: its first step is the longest one; for instance `fgsm(epsilon=1.0)`.
      num_steps: n.
      num_finer: how many shorter ones.

    Returns:
      A `Search`, whose result's `trace` is a `SearchInfo`.

    Raises:
      ValueError: for numbers below 1, and for an attack with a penalty or a transform, which are no
        part of such a step.

    Example:
      >>> import bfjax
      >>> predict = lambda x: jnp.stack([x.mean() - 0.3, 0.3 - x.mean()])
      >>> search = smallest_step(bfjax.attacks.fgsm(epsilon=1.0), num_steps=100)
      >>> result = bfjax.run(search, predict, jnp.full((2, 2, 1), 0.5), 0)
      >>> round(float(result.trace.epsilon), 3)
      0.21
    """
    if min(num_steps, num_finer) < 1:
        raise ValueError(f"numbers of steps are at least 1, got {num_steps=}, {num_finer=}")
    for name in ("penalty", "transform"):
        if (found := getattr(attack, name)) is not None:
            raise ValueError(f"smallest_step takes an attack without a {name}, got {found}")
    return SmallestStep(attack, num_steps, num_finer)
