"""The attack loop and its pieces: losses, transformations, projections, searches, batches."""

from bfjax.attack.batch import check_batch, run_batch
from bfjax.attack.diversity import (
    eight_bit,
    ensemble,
    jpeg_rounding,
    random_resize,
    random_window,
    resize_and_pad,
    smooth_gradient,
)
from bfjax.attack.loop import finish, init, run, step
from bfjax.attack.objective import (
    Reduction,
    binary_cross_entropy,
    binary_margin,
    cross_entropy,
    is_right,
    is_wrong,
    l1_penalty,
    margin,
    targeted,
)
from bfjax.attack.projections import image_ball, onto_ball, parameter_ball
from bfjax.attack.search import minimal, restarts, smallest_step
from bfjax.attack.stream import Done, run_stream
from bfjax.attack.transforms import Norm, gaussian_smoothing, normalize, steepest

__all__ = [
    "Done",
    "Norm",
    "Reduction",
    "binary_cross_entropy",
    "binary_margin",
    "check_batch",
    "cross_entropy",
    "eight_bit",
    "ensemble",
    "finish",
    "gaussian_smoothing",
    "image_ball",
    "init",
    "is_right",
    "is_wrong",
    "jpeg_rounding",
    "l1_penalty",
    "margin",
    "minimal",
    "normalize",
    "onto_ball",
    "parameter_ball",
    "random_resize",
    "random_window",
    "resize_and_pad",
    "restarts",
    "run",
    "run_batch",
    "run_stream",
    "smallest_step",
    "smooth_gradient",
    "steepest",
    "step",
    "targeted",
]
