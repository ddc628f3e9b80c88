"""The attack loop and its pieces: objectives, the loop on one image, the batch runner."""

from bfjax.attack.batch import check_batch, run_batch
from bfjax.attack.loop import finish, init, run, step
from bfjax.attack.objective import cross_entropy, l1_penalty, targeted_cross_entropy

__all__ = [
    "check_batch",
    "cross_entropy",
    "finish",
    "init",
    "l1_penalty",
    "run",
    "run_batch",
    "step",
    "targeted_cross_entropy",
]
