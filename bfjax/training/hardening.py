"""Light in training: the hardest that few steps find for an image, or Gaussian for certificates."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Scalar

from bfjax.field import Encoding, bias_field, legendre
from bfjax.numbers import check_numbers
from bfjax.robustness import DEGREE, MAX_STEPS, hardest, light
from bfjax.types import Logits, Predict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardening:
    """Under which light a classifier learns; by default under none.

    Attributes:
      harden: ρ, the log-range within which light is hard for the classifier as it is by then, see
        `bfjax.robustness.hardest`; None for none.
      harden_steps: of that ascent; 0 for random light.
      consistency: β of cross-entropy(f(X), y) + β KL(f(X) ‖ f(X under light)); None or 0 for the
        cross-entropy under the light alone.
      noise_fields: σ of the coefficients of Gaussian light, X·e^{Φd}, d ~ N(0, σ²I), as
        `bfjax.robustness.certify` draws it; None for none. Hard light comes on top of it.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.

    Raises:
      ValueError: a number that is out of its range, or one that nothing makes use of.
    """

    harden: float | None = None
    harden_steps: int = 1
    consistency: float | None = None
    noise_fields: float | None = None
    encoding: Encoding = "linear"
    gamma: float = 0.29

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of the numbers, which are those of the options."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        sizes = {"harden": self.harden, "noise_fields": self.noise_fields}
        check_numbers(above=0, below=math.inf, optional=True, **sizes)
        check_numbers(at_least=0, below=math.inf, optional=True, consistency=self.consistency)
        check_numbers(above=0, below=math.inf, gamma=self.gamma)
        if self.encoding not in get_args(Encoding):
            raise ValueError(f"encoding must be one of {get_args(Encoding)}, got {self.encoding!r}")
        if self.harden_steps not in range(MAX_STEPS + 1):
            raise ValueError(f"harden_steps must be 0 to {MAX_STEPS}, got {self.harden_steps}")
        if self.harden is None and self.harden_steps != type(self).harden_steps:
            raise ValueError(f"harden_steps is {self.harden_steps}, and harden says no log-range")
        usual = type(self)
        if self.encoding != "log" and self.gamma != usual.gamma:
            raise ValueError(f"gamma is {self.gamma}, which is of the encoding log")
        if self.encoding != usual.encoding and not self:
            raise ValueError(
                f"encoding is {self.encoding}, and there is no light: give harden or noise_fields"
            )
        if self.consistency and not self:
            raise ValueError(
                f"consistency is {self.consistency}, and there is no light to be consistent under: "
                "give harden or noise_fields"
            )

    @property
    def grey(self) -> dict[str, Any]:
        """What light does to grey values."""
        return {"encoding": self.encoding, "gamma": self.gamma}

    def __bool__(self) -> bool:
        """Whether there is any light."""
        return self.harden is not None or self.noise_fields is not None


def lit(
    hardening: Hardening,
    predict: Predict,
    images: Float[Array, "n h w c"],
    labels: Int[Array, " n"],
    keys: Key[Array, " n"],
) -> Float[Array, "n h w c"]:
    """Images under the light in which a classifier learns, each under its own.

    Args:
      hardening: which light that is; there is some.
      predict: the classifier as it is, in evaluation.
      images: in [0, 1].
      labels: their classes.
      keys: (n,), of each image.

    Returns:
      The images, clipped once: X·e^{Φ(d + c)}, d the Gaussian light, c the hard one; of a log
      encoding X − γ Φ(d + c).
    """
    _, height, width, _ = images.shape
    allowed = hardening.harden
    with jax.ensure_compile_time_eval():  # tables, which every step would compute anew
        field = legendre((height, width), degree=DEGREE)
        threat = None
        if allowed is not None:
            threat = light((height, width), max_log_range=allowed, **hardening.grey)
    noise = bias_field(field, **hardening.grey)
    # light adds up where nothing is clipped between
    brighten = noise.apply if threat is None else noise.unclipped

    def one(key, image, label):
        gaussian, start = jax.random.split(key)
        if hardening.noise_fields is not None:
            d = hardening.noise_fields * jax.random.normal(gaussian, field.init().shape)
            image = brighten(d, image)  # pyrefly: ignore[not-callable]
        if threat is None:
            return image
        steps = hardening.harden_steps
        return hardest(predict, threat, image, label, num_steps=steps, key=start).adversarial

    return jax.vmap(one)(keys, images, labels)


def divergence(clean: Logits, changed: Logits) -> Scalar:
    """KL(p ‖ q) = Σ_k p_k (log p_k − log q_k), p and q the softmax of two logits.

    Args:
      clean: of p, (classes,).
      changed: of q.

    Returns:
      The divergence in nats; its gradient goes to both.

    Example:
      >>> round(divergence(jnp.zeros(2), jnp.asarray([0.0, 1.0])).item(), 4)
      0.1201

    Reference: Zhang et al., *Theoretically Principled Trade-off between Robustness and Accuracy*
    (TRADES), ICML 2019, Eq. 5.
    """
    p, q = jax.nn.log_softmax(clean), jax.nn.log_softmax(changed)
    return (jnp.exp(p) * (p - q)).sum()
