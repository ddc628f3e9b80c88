"""BRISQUE, the no-reference image quality score, with OpenCV's features and OpenCV's model.

A natural image, less its local mean and over its local deviation (MSCN), is nearly Gaussian, and
distortions change that. At the image's own scale and at half of it, asymmetric generalised
Gaussians are fitted to the MSCN image and to its products with four neighbours; a support vector
regression turns their 36 parameters into a score.

Convention:
    Low is good. Scores are not clipped: natural images may fall below 0, and distorted ones above
    100. Scores of other codes (MATLAB's, PIQ's) are on another scale: never mix them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from bfjax.types import Image

_MIN_SIZE = 16
_SIGMA, _RADIUS = 7 / 6, 3
_SATURATION = 1 / 255  # added to the local deviation: one grey level
_CUBIC = -0.75  # Keys' a

MultiplyAdd = Callable[[Any, Array, Array], Array]


def brisque(image: Image) -> Scalar:
    """The BRISQUE score of one grey image; lower is better.

    Which BRISQUE: the features of OpenCV's `cv2.quality.QualityBRISQUE` and the model that OpenCV
    ships, trained on LIVE release 2. OpenCV's `compute` is this score clipped to [0, 100]. The two
    agree to a few hundredths on photographs and X-rays. Where an image is flat but not black,
    OpenCV counts rounding errors as samples; this rounds in float32 where OpenCV does, on every
    platform, so they come out alike. Drawings with large flat parts may differ by some tenths, as
    OpenCV does from itself when its resizing does not use Intel's IPP.

    A constant image has no statistics: its distributions get no width and the largest shape on the
    grid, and its score is 149.6 whatever its grey (OpenCV's features are NaN there).

    Args:
      image: (h, w, 1), float in [0, 1], at least 16 pixels high and wide.

    Returns:
      The score, float32; NaN if a pixel is.

    Raises:
      ValueError: when traced, for an image that is not (h, w, 1) of floats, or smaller than 16, or
        to be differentiated: shapes are looked up on a grid, so the gradient would be wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> round(brisque(jnp.full((16, 16, 1), 0.5)).item(), 1)
      149.6

    Reference: Mittal, Moorthy, Bovik, No-Reference Image Quality Assessment in the Spatial Domain,
    IEEE Transactions on Image Processing 21, 2012.
    """
    if jnp.ndim(image) != 3 or image.shape[2] != 1:
        raise ValueError(f"brisque takes one grey image (h, w, 1), got shape {jnp.shape(image)}")
    if min(image.shape[:2]) < _MIN_SIZE:
        raise ValueError(f"brisque needs {_MIN_SIZE} x {_MIN_SIZE} pixels, got {image.shape[:2]}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"an image is float in [0, 1], got {image.dtype}; see bfjax.data.to_float")
    return _score(image)


@jax.custom_jvp
@jax.jit  # compiled even when called eagerly, see _contracted
def _score(image: Float[Array, "h w 1"]) -> Scalar:
    # by way of grey levels c, as OpenCV: c · (1/255) and c / 255 are not always the same float
    pixels = _rounded(_rounded(255 * image[..., 0].astype(jnp.float32)) * (1 / 255))
    exact = partial(_normalised, multiply_add=_exact)
    scales = jax.lax.platform_dependent(
        pixels, cpu=partial(_normalised, multiply_add=_contracted), default=exact
    )
    features = jnp.concatenate(list(map(_features, scales)))
    model = _model()
    scaled = 2 * (features - model["range_min"]) / (model["range_max"] - model["range_min"]) - 1
    # Differences, not |v|² − 2v·s + |s|², and deviations from a typical kernel, as Σα = 0: α of
    # ± 1024 carries every rounding into the score.
    exponents = -model["gamma"] * jnp.sum((model["support_vectors"] - scaled[None]) ** 2, 1)
    typical = jnp.mean(exponents)
    deviations = jnp.dot(model["alpha"], jnp.expm1(exponents - typical), precision="highest")
    return jnp.exp(typical) * deviations - model["rho"]


@_score.defjvp
def _no_gradient(primals, tangents):
    raise ValueError("brisque cannot be differentiated: it looks shapes up on a grid")


def _normalised(pixels: Float[Array, "h w"], *, multiply_add: MultiplyAdd) -> tuple[Array, Array]:
    """The MSCN images of both scales."""
    halved = _halve(_halve(pixels, 1, multiply_add), 0, multiply_add)
    return _mscn(pixels, multiply_add), _mscn(halved, multiply_add)


def _features(mscn: Float[Array, "h w"]) -> Float[Array, " 18"]:
    """One scale: the MSCN image's shape and variance; each product's shape, mean and variances."""
    shape, mean, left, right = _fit(_moments(mscn), mscn.size)
    products = jnp.stack([shape, mean, left**2, right**2], axis=1)[1:]
    return jnp.concatenate(
        [jnp.stack([shape[0], (left[0] ** 2 + right[0] ** 2) / 2]), products.ravel()]
    )


def _mscn(pixels: Float[Array, "h w"], multiply_add: MultiplyAdd) -> Float[Array, "h w"]:
    """(X − μ) / (σ + 1/255), with Gaussian-weighted local mean and deviation."""
    # behind a barrier, or XLA pushes the slices of the blur into the padding, many times slower
    padded = jax.lax.optimization_barrier(jnp.pad(pixels, _RADIUS, mode="edge"))
    pixels = padded[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    mean, square = _blur(padded, multiply_add), _blur(padded * padded, multiply_add)
    variance = square - _rounded(mean * mean)
    mscn = (pixels - mean) / (jnp.sqrt(jnp.maximum(variance, 0)) + _SATURATION)
    # OpenCV's root of a variance rounded below zero is NaN, and its NaNs count as zeros
    return jnp.where(variance < 0, 0, mscn)


def _blur(padded: Float[Array, "rows columns"], multiply_add: MultiplyAdd) -> Float[Array, "h w"]:
    """The 7 x 7 Gaussian of σ = 7/6, where it fits, rounded where OpenCV rounds."""
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = (size - 2 * _RADIUS for size in padded.shape)
    rows = _rounded(weights[0] * padded[:, :width])  # from left to right
    for i in range(1, 2 * _RADIUS + 1):
        rows = multiply_add(weights[i], padded[:, i : i + width], rows)
    blurred = _rounded(weights[_RADIUS] * rows[_RADIUS : _RADIUS + height])  # outwards
    for i in range(1, _RADIUS + 1):
        above, below = (rows[_RADIUS + d : _RADIUS + d + height] for d in (-i, i))
        blurred = multiply_add(weights[_RADIUS + i], above + below, blurred)
    return blurred


def _halve(
    x: Float[Array, "rows columns"], axis: int, multiply_add: MultiplyAdd
) -> Float[Array, "h w"]:
    """Cubic interpolation at ⌊size / 2⌋ evenly spaced points along an axis, edges replicated.

    Their spacing is 2, or a little more for an odd size, so the first of the four taps of point i
    is pixel 2i − 1, or 2i in the second half of an odd size.
    """
    size = x.shape[axis]
    half = size // 2
    point = np.arange(half)
    centre = (point + 0.5) * (size / half) - 0.5
    late = np.floor(centre) > 2 * point
    x = jnp.pad(x, [(1, 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    taps, weights = [], []
    for k in range(4):
        tap = jax.lax.slice_in_dim(x, k, k + 2 * half, 2, axis)
        if late.any():
            later = jax.lax.slice_in_dim(x, k + 1, k + 1 + 2 * half, 2, axis)
            tap = jnp.where(np.expand_dims(late, 1 - axis), later, tap)
        weight = _cubic(np.abs(centre - (2 * point + late + k - 1))).astype(np.float32)
        taps.append(tap)
        weights.append(np.expand_dims(weight, 1 - axis))
    terms = [_rounded(weight * tap) for weight, tap in zip(weights, taps, strict=True)]
    if axis == 1:  # OpenCV fuses multiply and add along columns only
        return (terms[0] + terms[1]) + (terms[2] + terms[3])
    first = multiply_add(weights[0], taps[0], terms[1])
    return first + multiply_add(weights[2], taps[2], terms[3])


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, for distances in [0, 2]."""
    a, d = _CUBIC, distance
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    return np.where(d <= 1, near, a * (((d - 5) * d + 8) * d - 4))


def _rounded(x: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """The same x, but rounded: the bound, never reached, keeps compilers from fusing x = a · b into
    a sum or another product.
    """
    return jnp.clip(x, -256, 256)


def _contracted(weight: Any, x: Array, addend: Array) -> Array:
    """The sum weight · x + addend, which XLA compiles for a CPU so that it rounds once."""
    return weight * x + addend


def _exact(weight: Any, x: Array, addend: Array) -> Array:
    """The sum weight · x + addend, rounded once whatever the compiler makes of it.

    The product is its rounded value and Dekker's error, the sum its rounded value and Knuth's
    (A floating-point technique for extending the available precision, Numerische Mathematik 18,
    1971). Every product here but the one that is `_rounded` is exact, so fusing it changes nothing.
    """
    (weight_high, weight_low), (high, low) = _split(jnp.asarray(weight)), _split(x)
    product = _rounded(weight * x)
    error = (weight_high * high - product) + weight_high * low + weight_low * high
    error = error + weight_low * low
    total = product + addend
    share = total - product
    return total + ((product - (total - share)) + (addend - share) + error)


def _split(x: Array) -> tuple[Array, Array]:
    """The first twelve binary digits of x and the rest, whose products are exact."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & np.uint32(0xFFFFF000)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, x - high


# the MSCN image, and its products with its neighbours to the right, below and on both diagonals
_FIELDS: tuple[Callable[[Array], Array], ...] = (
    lambda n: n,
    lambda n: n[:, :-1] * n[:, 1:],
    lambda n: n[:-1] * n[1:],
    lambda n: n[:-1, :-1] * n[1:, 1:],
    lambda n: n[1:, :-1] * n[:-1, 1:],
)


def _moments(mscn: Float[Array, "h w"]) -> Float[Array, "5 fields"]:
    """Σ|f|, Σf² of f > 0 and of f < 0, and how many there are of each, for the five fields f."""

    def sums(field, n):
        f = field(n)
        parts = (
            jnp.abs(f),
            jnp.square(jnp.maximum(f, 0)),
            jnp.square(jnp.minimum(f, 0)),
            (f > 0).astype(f.dtype),
            (f < 0).astype(f.dtype),
        )
        # one pass for all five; along rows first, so that no sum is long enough to lose digits
        zeros = (np.zeros((), f.dtype),) * len(parts)
        rows = jax.lax.reduce(parts, zeros, lambda a, b: tuple(map(jnp.add, a, b)), (1,))
        return jnp.stack([jnp.sum(row) for row in rows])

    # a loop, not a list: XLA would compute the MSCN image anew in each sum of a list
    branches = [partial(sums, field) for field in _FIELDS]
    return jax.lax.map(lambda i: jax.lax.switch(i, branches, mscn), jnp.arange(len(branches))).T


def _fit(moments: Float[Array, "5 fields"], count: int) -> tuple[Float[Array, " fields"], ...]:
    """Asymmetric generalised Gaussians by moment matching: shape, mean, left and right deviation.

    A symmetric one of shape γ has (E|f|)² / Ef² = ρ(γ) = Γ(2/γ)² / (Γ(1/γ) Γ(3/γ)). With deviations
    l and r on its two sides, it has (E|f|)² / Ef² · (l³ + r³)(l + r) / (l² + r²)² = ρ(γ).
    """
    absolute, right, left, positive, negative = moments
    empty = absolute == 0
    squares = jnp.where(empty, 1, right + left)
    left, right = (
        jnp.sqrt(square / jnp.maximum(number, 1))
        for square, number in ((left, negative), (right, positive))
    )
    l = left / jnp.where(empty, 1, left + right)  # as shares, whose fourth powers do not underflow
    r = 1 - l
    asymmetry = (l**3 + r**3) / (l**2 + r**2) ** 2
    measured = jnp.where(empty, 1, absolute**2 / (count * squares) * asymmetry)
    shapes, ratios = _shapes()
    nearest = jnp.searchsorted((ratios[1:] + ratios[:-1]) / 2, measured)
    shape, ratio = jnp.asarray(shapes)[nearest], jnp.asarray(ratios)[nearest]
    return shape, (right - left) * jnp.sqrt(ratio), left, right


@cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """γ = 0.2, 0.201, ..., 9.999 and ρ(γ), which rises with it."""
    shapes = 0.2 + 0.001 * np.arange(9800)
    log_gamma = np.vectorize(math.lgamma)
    ratios = np.exp(2 * log_gamma(2 / shapes) - log_gamma(1 / shapes) - log_gamma(3 / shapes))
    return shapes.astype(np.float32), ratios.astype(np.float32)


@cache
def _model() -> dict[str, np.ndarray]:
    """OpenCV's support vectors and feature ranges; see the NOTICE beside the file."""
    with (files("bfjax.metrics") / "brisque_opencv_live.npz").open("rb") as file:
        return {name: array.astype(np.float32) for name, array in np.load(file).items()}
