"""Light that a real machine makes: the worst of its set-ups, each within a listed range."""

from __future__ import annotations

from bfjax.attack import annealed, is_wrong, margin, parameter_ball
from bfjax.field import Encoding, bias_field, radiographic
from bfjax.numbers import Number
from bfjax.types import Attack


def misuse(
    image_shape: tuple[int, ...],
    *,
    width_cm: Number = 43.0,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    num_steps: int = 20,
    start_noise: Number = 0.1,
) -> Attack:
    """The set-up of an X-ray machine under which the classifier errs most.

    argmax_p margin(f(X under B̂(p)), y), p ∈ [−1, 1]⁷, of `bfjax.field.radiographic`, by steps along
    the signs of the gradient whose length falls from 0.3 to 0.

    Args:
      image_shape: (h, w) or (h, w, c).
      width_cm: of the detector.
      encoding: of the grey values, see `bfjax.bias_field`; the field is meant for `"log"`.
      gamma: γ of `"log"`, likewise.
      num_steps: gradients.
      start_noise: how far from the nominal set-up it starts, at random; of 1 the perturbation's
        `init` draws any set-up.

    Returns:
      An `Attack` whose params are `RadiographicParams`; it needs a key.

    Raises:
      ValueError: for a width that is not positive, or less than one step.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda x: 99 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> attack = misuse((16, 16, 1))
      >>> result = bfjax.run(attack, predict, jnp.full((16, 16, 1), 0.5), 1, key=jax.random.key(0))
      >>> int(result.logits.argmax())
      0
    """
    field = radiographic((image_shape[0], image_shape[1]), width_cm=width_cm)
    return Attack(
        perturbation=bias_field(field, start_noise=start_noise, encoding=encoding, gamma=gamma),
        loss=margin,
        optimizer=annealed("linf", 0.3, num_steps=num_steps),
        project=parameter_ball(norm="linf", radius=1.0),
        num_steps=num_steps,
        stop=is_wrong,
        iterate="best",
    )
