"""How much an attacked image differs from the clean one, SSIM and PSNR, or from the unclipped one.

Convention:
    Images are (h, w, c) in [0, 1], so the data range is 1. SSIM and PSNR are symmetric in their
    arguments and higher for more similar images. All is computed in at least float32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from bfjax.numbers import Number, check_numbers
from bfjax.types import Image

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(image: Image, reference: Image) -> Scalar:
    """Structural similarity, with Wang's 11 x 11 Gaussian window of σ = 1.5.

    ((2 μ_x μ_y + C1)(2 σ_xy + C2)) / ((μ_x² + μ_y² + C1)(σ_x² + σ_y² + C2)), averaged over all
    places where the window fits, and over channels.

    Args:
      image: (h, w, c) in [0, 1], at least 11 pixels high and wide.
      reference: of the same shape.

    Returns:
      The similarity in [-1, 1]; 1 for equal images.

    Raises:
      ValueError: when traced, for images of different shapes, or smaller than the window.

    Example:
      >>> import jax.numpy as jnp
      >>> ssim(jnp.full((16, 16, 1), 0.5), jnp.full((16, 16, 1), 0.5)).item()
      1.0

    Reference: Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment: From Error Visibility to
    Structural Similarity, IEEE Transactions on Image Processing 13, 2004.
    """
    x, y = _pair(image, reference)
    if min(x.shape[:2]) < 2 * _RADIUS + 1:
        raise ValueError(f"ssim needs {2 * _RADIUS + 1} x {2 * _RADIUS + 1} pixels, got {x.shape}")
    mean_x, mean_y, product, squares = _local_means(jnp.stack([x, y, x * y, x**2 + y**2]))
    covariance, variances = product - mean_x * mean_y, squares - mean_x**2 - mean_y**2
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return jnp.mean(luminance * (2 * covariance + _C2) / (variances + _C2))


def _local_means(maps: Float[Array, "maps h w c"]) -> Float[Array, "maps rows columns c"]:
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights = (weights / weights.sum()).tolist()
    for axis in (1, 2):
        size = maps.shape[axis] - 2 * _RADIUS
        shifted = [jax.lax.slice_in_dim(maps, i, i + size, axis=axis) for i in range(len(weights))]
        maps = jax.tree.reduce(jnp.add, [w * x for w, x in zip(weights, shifted, strict=True)])
    return maps


def psnr(image: Image, reference: Image) -> Scalar:
    """Peak signal-to-noise ratio, −10 log₁₀ of the mean squared difference.

    Args:
      image: (h, w, c) in [0, 1].
      reference: of the same shape.

    Returns:
      Decibels; infinite for equal images, where its gradient is taken to be zero.

    Raises:
      ValueError: when traced, for images of different shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> round(psnr(jnp.full((4, 4, 1), 0.5), jnp.full((4, 4, 1), 0.6)).item(), 3)
      20.0
    """
    x, y = _pair(image, reference)
    error = jnp.mean((x - y) ** 2)
    equal = error == 0
    return jnp.where(equal, jnp.inf, -10 * jnp.log10(jnp.where(equal, 1, error)))


def clipped_share(expected: Image, adversarial: Image, *, tolerance: Number = 1e-4) -> Scalar:
    """The share of pixels where a clip binds: X_a is not what the perturbation would have made.

    A pixel counts where |X_a − expected| > tolerance in any channel. Of a product, black pixels,
    which no factor changes, never count.

    Args:
      expected: (h, w, c), the perturbed image before any clip, such as `Perturbation.unclipped`
        makes it; in any range.
      adversarial: X_a of the same shape, in [0, 1].
      tolerance: in units of the range [0, 1], ≥ 0. The default is above what float32 rounds, and
        far below a grey level of 8 bits.

    Returns:
      The share in [0, 1]; a pixel that is NaN counts. It has no gradient.

    Raises:
      ValueError: when traced, for images of different shapes, or a negative tolerance.

    Example:
      >>> import jax.numpy as jnp
      >>> expected = jnp.asarray([0.5, 0.9, 1.2, 1.8]).reshape(2, 2, 1)
      >>> clipped_share(expected, jnp.clip(expected, 0, 1)).item()
      0.5
    """
    check_numbers(at_least=0, tolerance=tolerance)
    x, y = _pair(expected, adversarial)
    kept = jnp.all(jnp.abs(x - y) <= tolerance, axis=-1)
    return jnp.mean(~kept)  # so that NaN counts


def _pair(image: Image, reference: Image) -> tuple[Image, Image]:
    if jnp.ndim(image) != 3 or jnp.shape(image) != jnp.shape(reference):
        raise ValueError(
            "two images (h, w, c) of one shape are compared, got "
            f"{jnp.shape(image)} and {jnp.shape(reference)}; vmap over batches"
        )
    dtype = jnp.promote_types(jnp.result_type(image, reference), jnp.float32)
    for one in (image, reference):
        if not jnp.issubdtype(jnp.result_type(one), jnp.floating):
            raise ValueError(
                f"images are floats in [0, 1], got {jnp.result_type(one)}: see bfjax.data.to_float"
            )
    return image.astype(dtype), reference.astype(dtype)
