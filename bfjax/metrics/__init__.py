"""What an attack did: success and transfer, image quality and similarity, the shape of fields."""

from bfjax.metrics.brisque import brisque
from bfjax.metrics.similarity import psnr, ssim
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

__all__ = [
    "McNemar",
    "SuccessRate",
    "brisque",
    "central_range",
    "folded_share",
    "gradient_energy",
    "high_frequency_share",
    "mcnemar",
    "psnr",
    "ssim",
    "success_rate",
    "total_variation",
    "transfer_matrix",
    "wilson_interval",
]
