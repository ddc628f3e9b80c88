"""What is measured of each attacked image beside success: quality, similarity, its field.

The names are those of the records' columns.
"""

from __future__ import annotations

import io
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image as Pillow

from bfjax import metrics
from bfjax.field import PolynomialTPSParams, warp_matrix
from bfjax.types import Params

_FREQUENCY = 8.0  # cycles per image: above it, a field is no longer a smooth one
SAVED_AS = ("png", "jpeg")
# AAPM TG-150's regions on a chest detector, 35 x 43 or 43 x 43 cm: few images say their pixel size
NONUNIFORMITY = {"image_width_mm": 430.0, "region_mm": 10.0, "border_mm": 10.0}


def of_images(
    images: Float[Array | np.ndarray, "n h w c"], adversarial: Float[Array | np.ndarray, "n h w c"]
) -> dict[str, np.ndarray]:
    """BRISQUE before and after (OpenCV's LIVE model, unclipped), SSIM and PSNR (dB).

    Args:
      images: clean, in [0, 1].
      adversarial: attacked.

    Returns:
      Name to (n,) values; of images too small or not grey, what can be measured of them.
    """
    _, height, width, channels = images.shape
    found = {"psnr": _psnr(adversarial, images)}
    if min(height, width) >= 11:
        found["ssim"] = _ssim(adversarial, images)
    if min(height, width) >= 16 and channels == 1:
        found |= {"brisque_clean": _brisque(images), "brisque": _brisque(adversarial)}
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def of_fields(log_fields: Float[np.ndarray, "n h w"], params: Params) -> dict[str, np.ndarray]:
    """The strength, smoothness and non-uniformity of log fields, and how much of them folds over.

    Args:
      log_fields: B̂.
      params: of the attacks, with a leading axis of n; those of another field than
        `polynomial_tps` have no warp.

    Returns:
      Name to (n,) values: log_range, log_field_rms and largest_slope of B̂; total_variation and
      gradient_energy, the high_frequency_share above 8 cycles per image, central_min and
      central_max of B, global_nonuniformity and local_nonuniformity for images as wide as
      NONUNIFORMITY says, and folded_share; of images too small, what can be measured of them.
    """
    found = dict(_of_field(log_fields))
    if isinstance(params, PolynomialTPSParams):
        shape = (log_fields.shape[1], log_fields.shape[2])
        matrix = warp_matrix(shape, round(params.control_points.shape[1] ** 0.5))
        found["folded_share"] = _folded(
            jnp.asarray(matrix, jnp.float32), params.control_points, shape
        )
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def of_clips(
    unclipped: Float[np.ndarray, "n h w c"], adversarial: Float[np.ndarray, "n h w c"]
) -> dict[str, np.ndarray]:
    """Where images are not what their field alone would have made of them.

    Args:
      unclipped: the attacked images before any clip, of B̂ or of themselves.
      adversarial: attacked.

    Returns:
      The name clipped_share to (n,) values, shares of the pixels.
    """
    return {"clipped_share": np.asarray(_clipped(unclipped, adversarial), np.float64)}


def as_saved(
    images: Float[np.ndarray, "n h w c"], kind: Literal["png", "jpeg"]
) -> Float[np.ndarray, "n h w c"]:
    """Images as they come back from a file: rounded to 8 bits, by JPEG at quality 75 compressed.

    Args:
      images: in [0, 1], grey or RGB.
      kind: of the file.

    Returns:
      In [0, 1].

    Example:
      >>> as_saved(np.full((1, 8, 8, 1), 0.5), "png")[0, 0, 0].item() * 255
      128.0
    """
    return np.stack([_round_trip(image, kind) for image in np.asarray(images)])


def _round_trip(image: np.ndarray, kind: str) -> np.ndarray:
    pixels = np.round(image * 255).astype(np.uint8)
    file = io.BytesIO()
    picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(file, kind, **({"quality": 75} if kind == "jpeg" else {}))
    read = np.asarray(Pillow.open(file), image.dtype) / 255
    return read.reshape(image.shape)


_psnr = jax.jit(jax.vmap(metrics.psnr))
_ssim = jax.jit(jax.vmap(metrics.ssim))
_brisque = jax.jit(jax.vmap(metrics.brisque))
_clipped = jax.jit(jax.vmap(metrics.clipped_share))


@jax.jit
@jax.vmap
def _of_field(log_field: Any) -> dict[str, Any]:
    height, width = log_field.shape
    low, high = metrics.central_range(log_field)
    found = {
        "log_range": metrics.log_range(log_field),
        "log_field_rms": metrics.root_mean_square(log_field),
        "total_variation": metrics.total_variation(log_field),
        "gradient_energy": metrics.gradient_energy(log_field),
        "high_frequency_share": metrics.high_frequency_share(log_field, frequency=_FREQUENCY),
        "central_min": low,
        "central_max": high,
    }
    if min(height, width) >= 2:
        found["largest_slope"] = metrics.largest_slope(log_field)
    pixel = NONUNIFORMITY["image_width_mm"] / width
    sizes = {name: NONUNIFORMITY[name] for name in ("region_mm", "border_mm")}
    if height * pixel >= 2 * sum(sizes.values()):  # in a strip no regions are above each other
        uneven = metrics.nonuniformity(log_field, pixel_mm=pixel, **sizes)
        found |= {"global_nonuniformity": uneven.global_, "local_nonuniformity": uneven.local}
    return found


@jax.jit(static_argnums=2)
def _folded(matrix: Any, control_points: Any, shape: tuple[int, int]) -> Any:
    return jax.vmap(lambda theta: metrics.folded_share((matrix @ theta).reshape(*shape, 2)))(
        control_points
    )
