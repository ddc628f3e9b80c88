"""How uneven the light must be before the classifier errs, for one image."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Scalar

from bfjax.attack import is_wrong, norm_of
from bfjax.field import Encoding
from bfjax.numbers import Number, check_numbers
from bfjax.robustness.random_search import margin_of
from bfjax.robustness.threat import Exposure, Threat, light
from bfjax.types import Image, Label, Logits, Params, Predict

_FIRST_STEP, _LAST_STEP = 1.0, 0.05  # of the range of now
_FIRST_CHANGE, _LAST_CHANGE = 0.05, 0.001  # of the range itself, as in the reference
_LARGEST = 2 * math.log(2)  # a factor of four from the darkest to the brightest
_FAR = 1e3  # as many ranges away: the nearest light that is allowed is then the one furthest along


class SmallestRange(NamedTuple):
    """The least uneven light that was found under which the classifier errs.

    Attributes:
      log_range: its log-range, an upper bound on the smallest; 0 where the classifier errs without
        it, infinite where none was found.
      params: c; zeros where none was found.
      adversarial: the image under that light.
      logits: what the classifier says of it.
      wrong: whether one was found.
    """

    log_range: Scalar
    params: Params
    adversarial: Image
    logits: Logits
    wrong: Bool[Array, ""]


def smallest_range(
    predict: Predict,
    image: Image,
    label: Label,
    *,
    largest: Number = _LARGEST,
    num_steps: int = 40,
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
) -> SmallestRange:
    """The smallest log-range at which light makes the classifier err, from above.

    min ρ subject to argmax f(X·exp(B̂(c))) ≠ y, max B̂ − min B̂ ≤ ρ, by steps along the normalised
    gradient of the margin, each followed by the nearest light within ρ, and ρ itself moves: it
    shrinks below the range of a light that errs, and grows while none does, by 5 % at first and
    0.1 % in the end. Until a first light errs, ρ is where the margin would vanish if it were linear
    in c.

    Args:
      predict: the classifier.
      image: (h, w, c) in [0, 1].
      label: as for `worst_case`.
      largest: ρ is not searched beyond it; by default a factor of four, 1.39.
      num_steps: gradients.
      exposure: see `light`; of exposure alone the range is 2 |c_0|.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.

    Returns:
      What was found. The classifier may err at smaller ranges too.

    Raises:
      ValueError: for a range that is not positive, less than one step, and as `light`.

    Example:
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> found = smallest_range(predict, jnp.full((16, 16, 1), 0.5), 1)
      >>> bool(found.wrong), 0 < float(found.log_range) < 0.1
      (True, True)

    Reference: Pintor et al., *Fast Minimum-norm Adversarial Attacks through Adaptive Norm
    Constraints*, NeurIPS 2021, here with the log-range in place of a norm.
    """
    check_numbers(above=0, below=math.inf, largest=largest)
    threat = light(
        image.shape, max_log_range=largest, exposure=exposure, encoding=encoding, gamma=gamma
    )
    return search(threat, predict, image, label, num_steps=num_steps)


def search(
    threat: Threat, predict: Predict, image: Image, label: Label, *, num_steps: int
) -> SmallestRange:
    """The smallest light of any kind, see `smallest_range`.

    Args:
      threat: of the largest size.
      predict: the classifier.
      image: (h, w, c).
      label: the true class.
      num_steps: gradients.

    Returns:
      What was found; its `log_range` is the size of the threat.

    Raises:
      ValueError: for less than one step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    state, _ = jax.lax.scan(
        lambda state, part: (step(threat, predict, image, label, state, part), None),
        start(threat, image),
        parts(num_steps),
    )
    return finish(threat, predict, image, label, state)


class State(NamedTuple):
    """What one step hands to the next.

    Attributes:
      params: c, where the next gradient is taken.
      log_range: ρ of now.
      best: (log-range, c) of the least uneven light so far that errs.
    """

    params: Params
    log_range: Scalar
    best: tuple[Scalar, Params]


def parts(num_steps: int) -> Float[Array, " steps"]:
    """How far the search is at each step, from 0 to 1.

    Args:
      num_steps: their number.

    Returns:
      (num_steps,).
    """
    return jnp.linspace(0, 1, num_steps)


def start(threat: Threat, image: Image) -> State:
    """No light, and the largest range.

    Args:
      threat: of the largest range.
      image: (h, w, c).

    Returns:
      The state before the first step.
    """
    none = threat.perturbation.init(image, None)
    return State(none, jnp.asarray(threat.largest, jnp.float32), (jnp.float32(jnp.inf), none))


def step(
    threat: Threat, predict: Predict, image: Image, label: Label, state: State, part: Scalar
) -> State:
    """One gradient, see `smallest_range`.

    Args:
      threat: of the largest range.
      predict: the classifier.
      image: (h, w, c).
      label: the true class.
      state: from `start` or the step before.
      part: how far the search is, of `parts`.

    Returns:
      The next state.
    """
    c, rho, best = state
    (margin, wrong), slope = jax.value_and_grad(_margin, has_aux=True)(
        c, threat, predict, image, label
    )
    slope = jnp.where(jnp.isfinite(slope).all(), slope, 0)  # where it is not, c stays
    there = threat.size(c)
    best = _smaller(best, there, c, wrong)
    tiny = jnp.finfo(slope.dtype).tiny
    unit = slope / jnp.maximum(norm_of(slope, "l2"), tiny)
    # how much one unit of range can raise the margin, to first order
    furthest = threat.scaled(jnp.float32(1)).within(_FAR * unit, image)
    rise = jnp.maximum(jnp.vdot(slope, furthest), tiny)
    change = _falling(_FIRST_CHANGE, _LAST_CHANGE, part)
    longer = jnp.where(jnp.isfinite(best[0]), rho * (1 + change), there - margin / rise)
    rho = jnp.where(wrong, jnp.minimum(rho, there) * (1 - change), longer)
    rho = jnp.clip(rho, jnp.finfo(rho.dtype).eps, threat.largest).astype(jnp.float32)
    length = _falling(_FIRST_STEP, _LAST_STEP, part) * rho
    return State(threat.scaled(rho).within(c + length * unit, image), rho, best)


def finish(
    threat: Threat, predict: Predict, image: Image, label: Label, state: State
) -> SmallestRange:
    """What was found, the last iterate included.

    Args:
      threat: of the largest range.
      predict: the classifier.
      image: (h, w, c).
      label: the true class.
      state: after the last step.

    Returns:
      The result of `smallest_range`.
    """
    _, wrong = _margin(state.params, threat, predict, image, label)
    log_range, params = _smaller(state.best, threat.size(state.params), state.params, wrong)
    adversarial = threat.perturbation.apply(params, image)
    logits = predict(adversarial)
    return SmallestRange(log_range, params, adversarial, logits, jnp.isfinite(log_range))


def _margin(
    c: Params, threat: Threat, predict: Predict, image: Image, label: Label
) -> tuple[Scalar, Bool[Array, ""]]:
    logits = predict(threat.perturbation.apply(c, image))
    return margin_of(logits, label), is_wrong(logits, label)


def _smaller(best: tuple, there: Scalar, c: Params, wrong: Bool[Array, ""]) -> tuple:
    take = wrong & (there < best[0])
    return jax.tree.map(lambda n, b: jnp.where(take, n, b), (there, c), best)


def _falling(first: float, last: float, part: Scalar) -> Scalar:
    """From the first to the last by a cosine."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * part)) / 2
