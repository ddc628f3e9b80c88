"""What an attack did: success and transfer, image quality and similarity, the shape of fields."""

from bfjax.metrics.brisque import brisque
from bfjax.metrics.similarity import clipped_share, psnr, ssim
from bfjax.metrics.smoothness import (
    central_range,
    folded_share,
    gradient_energy,
    high_frequency_share,
    total_variation,
)
from bfjax.metrics.success import (
    McNemar,
    SuccessRate,
    mcnemar,
    success_rate,
    transfer_matrix,
    wilson_interval,
)
from bfjax.metrics.uniformity import (
    Nonuniformity,
    largest_slope,
    log_range,
    nonuniformity,
    root_mean_square,
)

__all__ = [
    "McNemar",
    "Nonuniformity",
    "SuccessRate",
    "brisque",
    "central_range",
    "clipped_share",
    "folded_share",
    "gradient_energy",
    "high_frequency_share",
    "largest_slope",
    "log_range",
    "mcnemar",
    "nonuniformity",
    "psnr",
    "root_mean_square",
    "ssim",
    "success_rate",
    "total_variation",
    "transfer_matrix",
    "wilson_interval",
]
