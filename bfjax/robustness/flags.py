"""Signs that a test itself may have failed."""

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
