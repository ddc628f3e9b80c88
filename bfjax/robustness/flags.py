"""Signs that a test itself may have failed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

FLAGS = {
    "randomised": "The classifier answers the same image differently: every rate is of its luck "
    "too, and gradients point elsewhere each time. Test it with its randomness fixed.",
    "probabilities": "All answers lie in [0, 1]: of probabilities losses and margins are wrong. "
    "Give logits, or bfjax.models.from_probabilities.",
    "zero_gradient": "The margin has no slope at these images, or none that is finite: gradients "
    "say nothing about them, and what is found without gradients is all that is known.",
    "saturated": "The answer's probability is 1 in float32 at these images: the cross-entropy has "
    "no slope there, and attacks that follow it find little. This test follows the margin too.",
    "gradient_free": "These images were turned by light that was drawn or tried, and by none that "
    "followed a gradient: it may be masked, and the classifier weaker than it looks.",
}
"""What each flag of an audit means."""


def same_answers(
    once: Float[np.ndarray, "n classes"], again: Float[np.ndarray, "n classes"]
) -> bool:
    """Whether a classifier answers alike when it is asked twice, but for rounding.

    Args:
      once: logits.
      again: those of the second time.

    Returns:
      Whether they agree to 1e-4, as of themselves as of 1.

    Example:
      >>> same_answers(np.array([[0.0, 2.0]]), np.array([[0.0, 2.1]]))
      False

    Reference: Croce and Hein, *AutoAttack*, 2020, for such checks.
    """
    return bool(np.allclose(once, again, rtol=1e-4, atol=1e-4))
