"""The L2 attack of Carlini and Wagner: the smallest change that the classifier falls for.

No composition of `bfjax.Attack`'s four pieces: its penalty ‖x' − x‖² compares images, where theirs
sees parameters alone, and the weight c of its loss is searched anew for every image.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Scalar

from bfjax.attack import margin
from bfjax.field import check_image
from bfjax.numbers import Number, check_numbers, has_numbers
from bfjax.types import AttackResult, Image, Label, Logits, Params, Predict, PRNGKey

# The numbers of foolbox 3, so that results agree: tanh space keeps black and white finite, a
# descent that gains less than 0.01 % in a tenth of its steps is over, and where no c was enough
# the next is ten times larger.
_INSIDE = 0.999999
_PROGRESS = 0.9999
_GROWTH = 10.0
_LARGEST_CONST = 1e10


class SearchInfo(NamedTuple):
    """What the binary search records about each c that it tried.

    Attributes:
      const: c.
      found: whether this descent met an adversarial image.
      distance: ‖x' − x‖₂ of the best image so far, inf while there is none.
      num_steps: how many gradients the descent took.
    """

    const: Float[Array, " searches"]
    found: Bool[Array, " searches"]
    distance: Float[Array, " searches"]
    num_steps: Int[Array, " searches"]


class _Candidate(NamedTuple):
    distance: Scalar  # squared
    image: Image
    logits: Logits


class _Descent(NamedTuple):
    step: Scalar
    delta: Params  # in tanh space, counted from the clean image: small numbers keep digits
    opt_state: Any
    checked: Scalar  # the loss when progress was last checked
    stalled: Scalar
    found: Scalar
    best: _Candidate


@has_numbers("step_size", "initial_const", "confidence")
@dataclasses.dataclass(frozen=True)
class CarliniWagner:
    """The attack that `carlini_wagner_l2` makes, which says more of these options.

    Attributes:
      binary_search_steps: how many constants are tried.
      max_steps: steps of Adam with each.
      step_size: of Adam.
      initial_const: the first constant.
      confidence: by how much the logits shall differ.
      abort_early: stop a constant's search where the loss no longer falls.
      targeted: aim at the label in place of leaving it.
    """

    binary_search_steps: int
    max_steps: int
    step_size: Any
    initial_const: Any
    confidence: Any
    abort_early: bool
    targeted: bool

    def __post_init__(self):
        for name in ("binary_search_steps", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        finite = {"below": math.inf}
        given = {"step_size": self.step_size, "initial_const": self.initial_const}
        check_numbers(above=0, **finite, **given)
        check_numbers(at_least=0, **finite, confidence=self.confidence)

    @property
    def max_gradients(self) -> int:
        """Of all steps of the binary search."""
        return self.binary_search_steps * self.max_steps

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image; `vmap` makes batches, in which images that are done stay as they are.

        Args:
          predict: the classifier, one image to logits.
          image: (h, w, c), float in [0, 1].
          label: the true class, or the class to reach of a targeted attack.
          key: not used; nothing is random.

        Returns:
          `AttackResult`: the closest adversarial image that was met, or the image itself where
          none was or where the clean one already is. `params` is the adversarial image, as with
          `additive()`, `logits` is what the search saw there, `trace` is a `SearchInfo` whose
          leaves have a leading axis of `binary_search_steps`.

        Raises:
          ValueError: when traced, for an image that is not one, logits that are no vector, or a
            label that is no single class.
        """
        del key
        check_image(image)
        logits = predict(image)
        clean = image.astype(jnp.promote_types(image.dtype, jnp.float32))
        infinity = jnp.asarray(jnp.inf, clean.dtype)
        origin = jnp.arctanh(_INSIDE * (2 * clean - 1))
        optimizer = optax.adam(self.step_size)
        tenth = math.ceil(self.max_steps / 10)

        def lowered(delta, const):
            perturbed = _from_tanh_space(origin + delta)
            seen = perturbed.astype(image.dtype)
            logits = predict(seen)
            hinge = self._hinge(logits, label).astype(clean.dtype)
            loss = _squared_distance(perturbed, _from_tanh_space(origin))
            loss += const * jnp.maximum(hinge, 0)
            return loss, (hinge, _Candidate(_squared_distance(seen, clean), seen, logits))

        def step(const, state):
            (loss, (hinge, candidate)), gradient = jax.value_and_grad(lowered, has_aux=True)(
                state.delta, const
            )
            updates, opt_state = optimizer.update(gradient, state.opt_state)
            check = self.abort_early & (state.step % tenth == 0)
            stalled = check & ~(loss <= _PROGRESS * state.checked)
            adversarial = (hinge < 0) & ~stalled
            return _Descent(
                step=state.step + 1,
                delta=optax.apply_updates(state.delta, updates),
                opt_state=opt_state,
                checked=jnp.where(check, loss, state.checked),
                stalled=stalled,
                found=state.found | adversarial,
                best=_closer(adversarial, candidate, state.best),
            )

        def search(state, last):
            const, lower, upper, best = state
            const = jnp.where(last, jnp.minimum(upper, _LARGEST_CONST), const)
            delta = jnp.zeros_like(clean)
            end = jax.lax.while_loop(
                lambda state: (state.step < self.max_steps) & ~state.stalled,
                lambda state: step(const, state),
                _Descent(
                    step=jnp.asarray(0),
                    delta=delta,
                    opt_state=optimizer.init(delta),
                    checked=infinity,
                    stalled=jnp.asarray(False),
                    found=jnp.asarray(False),
                    best=best,
                ),
            )
            info = SearchInfo(const, end.found, jnp.sqrt(end.best.distance), end.step)
            upper = jnp.where(end.found, const, upper)
            lower = jnp.where(end.found, lower, const)
            const = jnp.where(jnp.isinf(upper), _GROWTH * const, (lower + upper) / 2)
            return (const, lower, upper, end.best), info

        const = jnp.asarray(self.initial_const, clean.dtype)
        already = self._hinge(logits, label) < 0
        best = _Candidate(jnp.where(already, 0, infinity), image, logits)
        # A long search ends on the smallest c that is known to be enough, tried once more.
        last = jnp.arange(self.binary_search_steps) == max(self.binary_search_steps - 1, 9)
        state = (const, jnp.zeros_like(const), infinity, best)
        (_, _, _, best), trace = jax.lax.scan(search, state, last)
        return AttackResult(best.image, best.image, best.logits, trace)

    __call__ = run

    def _hinge(self, logits: Logits, label: Label) -> Scalar:
        """How far the logits are from what the attack wants, by more than κ; below 0 it has it."""
        ahead = -margin(logits, label)
        return (-ahead if self.targeted else ahead) + self.confidence


def carlini_wagner_l2(
    *,
    binary_search_steps: int = 5,
    max_steps: int = 1000,
    step_size: Number = 5e-3,
    initial_const: Number = 1e-2,
    confidence: Number = 0.0,
    abort_early: bool = True,
    targeted: bool = False,
) -> CarliniWagner:
    """The L2 attack of Carlini and Wagner, as in foolbox 3, with the defaults of foolbox 2.

    argmin_w ‖x' − x‖² + c·max(z_y − max_{k≠y} z_k + κ, 0), x' = (tanh w + 1)/2, by Adam from x' = x
    (targeted at t: max_{k≠t} z_k − z_t in place of z_y − max_{k≠y} z_k). c is searched per image:
    ten times larger until it is enough, then halfway between the largest that was not and the
    smallest that was. What counts is the closest image met on the way whose margin passed κ.

    Args:
      binary_search_steps: how many c are tried; with ten or more, the last is the smallest one
        that was enough.
      max_steps: of Adam, for each c.
      step_size: of Adam, in tanh space.
      initial_const: the first c.
      confidence: κ, the margin of logits by which the classifier must be wrong.
      abort_early: end a descent when a tenth of `max_steps` lowered its loss by less than 0.01 %.
      targeted: reach the label given to `run` instead of leaving it.

    Returns:
      A `CarliniWagner`, whose `run(predict, image, label)` attacks one image.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> predict = lambda image: jnp.stack([image.mean(), 1 - image.mean()])  # is it bright?
      >>> attack = carlini_wagner_l2(binary_search_steps=3, max_steps=50, initial_const=10.0)
      >>> result = attack.run(predict, jnp.full((2, 2, 1), 0.6), 0)
      >>> bool(result.logits.argmax() == 1), round(float(result.adversarial.mean()), 2)
      (True, 0.5)

    Reference: Carlini and Wagner, *Towards Evaluating the Robustness of Neural Networks*, IEEE
    Symposium on Security and Privacy 2017.
    """
    return CarliniWagner(
        binary_search_steps=binary_search_steps,
        max_steps=max_steps,
        step_size=step_size,
        initial_const=initial_const,
        confidence=confidence,
        abort_early=abort_early,
        targeted=targeted,
    )


def _from_tanh_space(w: Image) -> Image:
    return (jnp.tanh(w) + 1) / 2


def _squared_distance(one: Image, other: Image) -> Scalar:
    return jnp.sum(jnp.square(one - other))


def _closer(adversarial: Scalar, candidate: _Candidate, best: _Candidate) -> _Candidate:
    better = adversarial & (candidate.distance < best.distance)
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, best)
