"""Hard light to train with: few steps uphill from a random light, for one image."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bfjax.attack import binary_cross_entropy, cross_entropy, norm_of
from bfjax.robustness.threat import Threat
from bfjax.types import Image, Label, Predict, PRNGKey, as_key

MAX_STEPS = 3
"""Of the ascent: what more steps find is for a test, and training has to pay for each."""
_NOISE = 2.0  # N-FGSM's k


class Hardest(NamedTuple):
    """A light that is hard for a classifier.

    Attributes:
      params: c.
      adversarial: the image under that light.
    """

    params: Float[Array, " n"]
    adversarial: Image


def hardest(
    predict: Predict,
    threat: Threat,
    image: Image,
    label: Label,
    *,
    num_steps: int = 1,
    key: PRNGKey,
) -> Hardest:
    """A light that is hard for a classifier as it is now, found in few steps: to train it with.

    c_0 = 2 u c*, u ~ U(0, 1) and c* a random light of `threat.draw`, as uneven as is allowed: the
    start is up to twice as uneven, and not projected before the first step. Then
    c_{i+1} = P(c_i + ρ/n ∇J / ‖∇J‖₂), J the cross-entropy at (f(X under c_i), y), n steps of one
    forward and one backward pass each. No steps leave P(c_0), a random light.

    The start is N-FGSM's, which keeps single-step training from overfitting to its own attack; two
    things differ. P projects onto what is allowed, so that the result is light of the range that is
    asked for, where N-FGSM leaves it outside. And the step is several times as long as the random
    light: in fourteen coefficients the projection, not the step, says how far it goes.

    The classifier is asked as it is evaluated: batch normalisations use their running averages,
    and change none. So each image has a light of its own, whatever else is in its batch, and clean
    accuracy suffers less (Pang et al.). Averages that have not yet settled, as in the first steps
    of a training from scratch, make poor gradients.

    Args:
      predict: the classifier, in evaluation.
      threat: what light is allowed, of `light`.
      image: (h, w, c). It may leave [0, 1] where it is under another light already: the clip comes
        last.
      label: y, the true class; of a head of findings (heads,) of 0 and 1.
      num_steps: n, 0 to `MAX_STEPS`.
      key: of the start.

    Returns:
      The light. It is a constant to whatever is differentiated: no gradient reaches the
      classifier's weights through it.

    Raises:
      ValueError: for another number of steps; for labels that do not fit the logits.

    Example:
      >>> from bfjax.robustness import light
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> threat = light((16, 16, 1), max_log_range=0.4)
      >>> images, keys = jnp.full((2, 16, 16, 1), 0.5), jax.random.split(jax.random.key(0))
      >>> attack = jax.vmap(lambda x, y, k: hardest(predict, threat, x, y, key=k))
      >>> found = attack(images, jnp.ones(2, int), keys)
      >>> jax.vmap(predict)(found.adversarial).argmax(1).tolist()
      [0, 0]

    Reference: de Jorge et al., *Make Some Noise: Reliable and Efficient Single-Step Adversarial
    Training* (N-FGSM), NeurIPS 2022, for the start; Pang et al., *Bag of Tricks for Adversarial
    Training*, ICLR 2021, for the mode of batch normalisation.
    """
    if num_steps not in range(MAX_STEPS + 1):
        raise ValueError(f"num_steps must be 0 to {MAX_STEPS}, got {num_steps}")
    loss = binary_cross_entropy if jnp.ndim(label) else cross_entropy
    direction, size = jax.random.split(as_key(key))
    start = _NOISE * jax.random.uniform(size) * threat.draw(direction)

    def objective(c: Float[Array, " n"]) -> Array:
        return loss(predict(threat.perturbation.apply(c, image)), label)

    def ascend(c: Float[Array, " n"], _: None) -> tuple[Float[Array, " n"], None]:
        gradient = jax.grad(objective)(c)
        norm = norm_of(gradient, "l2")
        step = threat.largest / num_steps * gradient / jnp.where(norm > 0, norm, 1)
        return threat.within((c + step).astype(c.dtype), image), None

    if num_steps:
        c, _ = jax.lax.scan(ascend, start, length=num_steps)
    else:
        c = threat.within(start, image)
    c = jax.lax.stop_gradient(c)
    return Hardest(c, threat.perturbation.apply(c, image))
