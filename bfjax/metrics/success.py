"""Success and transfer rates, with the accounting that the paper's figures were made with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer


class SuccessRate(NamedTuple):
    """How many of the images that a model got right it gets wrong when attacked.

    Attributes:
      correct: images the model classifies correctly when clean (the denominator).
      fooled: those among them that it gets wrong when attacked.
      rate: fooled / correct, in [0, 1]; NaN when no image was correct.
    """

    correct: int
    fooled: int
    rate: float


def success_rate(
    labels: Integer[np.ndarray, " n"],
    clean: Integer[np.ndarray, " n"],
    adversarial: Integer[np.ndarray, " n"],
) -> SuccessRate:
    """Success of an attack on one target model, white-box or transferred.

    |{i: clean_i = y_i and adversarial_i ≠ y_i}| / |{i: clean_i = y_i}|. The adversarial images are
    made on the source model for every image, whether or not they fooled the source.

    Args:
      labels: (n,), the true classes y.
      clean: (n,), the target's predictions on the clean images.
      adversarial: (n,), the target's predictions on the adversarial images.

    Returns:
      The counts and the rate.

    Raises:
      ValueError: when the lengths differ.

    Example:
      >>> import numpy as np
      >>> success_rate(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1, 0, 1]))
      SuccessRate(correct=2, fooled=1, rate=0.5)

    Reference: Tian et al., ICME 2021, Tables 1 and 2; 102 of their 106 rates below 100 % are
    multiples of 1/553, 1/548 or 1/555, the numbers of test images their models got right.
    """
    if not len(labels) == len(clean) == len(adversarial):
        raise ValueError(f"lengths differ: {len(labels)}, {len(clean)}, {len(adversarial)}")
    right = np.asarray(clean) == np.asarray(labels)
    fooled = right & (np.asarray(adversarial) != np.asarray(labels))
    correct, wrong = int(right.sum()), int(fooled.sum())
    return SuccessRate(correct, wrong, wrong / correct if correct else float("nan"))
