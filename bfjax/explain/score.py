"""DNN_y of Eq. 8: the score of the true label, which a mask lowers and a curve follows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Scalar

from bfjax.attack import binary_cross_entropy, binary_margin, check_class, cross_entropy
from bfjax.types import Label, Logits


def probability(logits: Logits, label: Label) -> Scalar:
    """The softmax probability of the true label, exp(−J(z, y)).

    Written so, it has a slope where softmax(z)[y] has rounded to 1.

    Args:
      logits: z, (classes,); a single logit says class 1 where it is positive.
      label: y, the true class; for several heads (heads,) of 0 and 1, all of which must be right.

    Returns:
      A probability.

    Raises:
      ValueError: when traced, for labels of another shape than the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> probability(jnp.zeros(4), 1).item(), probability(jnp.zeros(1), 1).item()
      (0.25, 0.5)

    Reference: Tian et al., ICME 2021, Eq. 8.
    """
    loss = binary_cross_entropy if _is_binary(logits, label) else cross_entropy
    return jnp.exp(-loss(logits, label))


def logit(logits: Logits, label: Label) -> Scalar:
    """The true label's logit z_y, which other classes do not move.

    Args:
      logits: z, (classes,); a single logit says class 1 where it is positive.
      label: y, the true class; for several heads (heads,) of 0 and 1.

    Returns:
      z_y; for a single logit ± z, positive where it is right; of several heads the smallest.

    Raises:
      ValueError: when traced, for labels of another shape than the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> logit(jnp.asarray([1.0, 3.0]), 1).item(), logit(jnp.asarray([3.0]), 0).item()
      (3.0, -3.0)
    """
    if _is_binary(logits, label):
        return -binary_margin(logits, label)
    check_class(label, classes=logits.shape[0])
    return logits[label]


def _is_binary(logits: Logits, label: Label) -> bool:
    return logits.shape == (1,) or np.ndim(label) > 0
