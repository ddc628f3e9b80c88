"""How strong the light must be before the classifier errs, by its root mean square."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Array, Bool, Scalar

from bfjax.field import Encoding
from bfjax.numbers import Number, check_numbers
from bfjax.robustness.smallest_range import search
from bfjax.robustness.threat import Exposure, light
from bfjax.types import Image, Label, Logits, Params, Predict

_LARGEST = math.log(2)  # as where one half is twice as bright, and the other half as bright


class SmallestRMS(NamedTuple):
    """The light of the smallest root mean square that was found under which the classifier errs.

    Attributes:
      rms: ‖c‖₂, an upper bound on the smallest; 0 where the classifier errs without light, infinite
        where none was found.
      params: c; zeros where none was found.
      adversarial: the image under that light.
      logits: what the classifier says of it.
      wrong: whether one was found.
    """

    rms: Scalar
    params: Params
    adversarial: Image
    logits: Logits
    wrong: Bool[Array, ""]


def smallest_rms(
    predict: Predict,
    image: Image,
    label: Label,
    *,
    largest: Number = _LARGEST,
    num_steps: int = 40,
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    clip: bool = True,
) -> SmallestRMS:
    """The smallest root mean square of a log field that makes the classifier err, from above.

    min ‖c‖₂ subject to argmax f(X·exp(B̂(c))) ≠ y, found as in `smallest_range`. Without the
    clip, and of the most frequent answer under random light, it is what a certificate bounds from
    below. Of a classifier whose margin is m_0 + g·c it is −m_0/‖g‖₂.

    Args:
      predict: the classifier.
      image: (h, w, c) in [0, 1].
      label: as for `worst_case`.
      largest: it is not searched beyond this; by default log 2, 0.69.
      num_steps: gradients.
      exposure: see `light`.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      clip: see `light`; without it the attack is the one that certificates exclude.

    Returns:
      What was found. The classifier may err under weaker light too.

    Raises:
      ValueError: for a number that is not positive, less than one step, and as `light`.

    Example:
      >>> import jax.numpy as jnp
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> found = smallest_rms(predict, jnp.full((16, 16, 1), 0.5), 1)
      >>> bool(found.wrong), 0.01 < float(found.rms) < 0.04
      (True, True)
    """
    check_numbers(above=0, below=math.inf, largest=largest)
    threat = light(
        image.shape, max_rms=largest, exposure=exposure, encoding=encoding, gamma=gamma, clip=clip
    )
    return SmallestRMS(*search(threat, predict, image, label, num_steps=num_steps))
