"""Corrections of uneven light before a classifier, and how an attacker gets past them.

A correction is a pure function of one image. `corrected(predict, correct)` is the classifier behind
it. An attack on it is oblivious where it was made on `predict` alone, adaptive where it follows the
gradient through the correction, and BPDA where it takes the correction for the identity on the way
back (`straight_through`), which helps where the correction hides its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.field import Encoding, check_image, clip, legendre
from bfjax.numbers import Number, check_numbers
from bfjax.types import Image, LogField, Logits, Predict, as_pytree

_DARKEST = 1 / 255  # below which the logarithm is that of one grey level of eight bits


def correct_polynomial(image: Image, *, degree: int = 4, encoding: Encoding = "linear") -> Image:
    """Divides an image by the smooth field that fits its logarithm best; its exposure stays.

    X·exp(−Σ c_k B̂_k), c = argmin ‖log X − c_0 − Σ c_k B̂_k‖₂ over all pixels, with the Legendre
    polynomials of `bfjax.field.legendre`. A field of their span is removed exactly if no pixel
    is clipped or darker than 1/255, and with it what the anatomy has of it. Black borders, which no
    light brightens, let a part of it stay.

    Args:
      image: (h, w, c) in [0, 1]; the channels are corrected alike, by their mean.
      degree: of the polynomials.
      encoding: of the grey values: with `"log"` X − Σ c_k B̂_k of X itself.

    Returns:
      The corrected image, clipped to [0, 1].

    Raises:
      ValueError: for a degree that leaves no function or is too high for the pixels, an unknown
        encoding, or what is not one image of floats.

    Example:
      >>> from bfjax.field import legendre
      >>> image = jax.random.uniform(jax.random.key(0), (16, 16, 1), minval=0.3, maxval=0.5)
      >>> log_field = legendre((16, 16), degree=2).log_field(0.05 * jnp.ones(5))
      >>> uneven = image * jnp.exp(log_field)[..., None]
      >>> gap = correct_polynomial(uneven) - correct_polynomial(image)
      >>> bool(jnp.abs(gap).max() < 1e-5)
      True

    Reference: Styner et al., *Parametric Estimate of Intensity Inhomogeneities Applied to MRI*, TMI
    2000, for polynomials of the logarithm.
    """
    field = legendre((image.shape[0], image.shape[1]), degree=degree)
    seen = _seen(image, encoding)
    # the basis is orthonormal: its mean products with the image are the coefficients
    fitted = jax.grad(lambda c: jnp.mean(field.log_field(c) * seen))(field.init())
    return _without(image, field.log_field(fitted), encoding)


def correct_homomorphic(
    image: Image, *, sigma: Number = 0.25, encoding: Encoding = "linear"
) -> Image:
    """Takes the slow part out of the logarithm of an image; its exposure stays.

    exp(ℓ − G_σ ℓ + mean(G_σ ℓ)), ℓ = log X, with a Gaussian G_σ whose weights inside the image sum
    to 1 at every pixel.

    Args:
      image: (h, w, c) in [0, 1]; the channels are corrected alike, by their mean.
      sigma: of the Gaussian, in widths and heights of the image.
      encoding: of the grey values: with `"log"` the same of X itself.

    Returns:
      The corrected image, clipped to [0, 1].

    Raises:
      ValueError: for a sigma that is not positive, an unknown encoding, or what is not one image of
        floats.

    Example:
      >>> correct_homomorphic(jnp.full((8, 8, 1), 0.5)).round(4)[0, 0].tolist()
      [0.5]

    Reference: Oppenheim, Schafer and Stockham, *Nonlinear Filtering of Multiplied and Convolved
    Signals*, Proceedings of the IEEE 1968.
    """
    check_numbers(above=0, below=math.inf, sigma=sigma)
    seen = _seen(image, encoding)
    rows, columns = (_gaussian(n, sigma) for n in seen.shape)
    slow = jnp.matmul(jnp.matmul(rows, seen, precision="highest"), columns.T, precision="highest")
    return _without(image, slow - slow.mean(), encoding)


def corrected(predict: Predict, correct: Callable[[Image], Image]) -> Predict:
    """The classifier behind a correction.

    Args:
      predict: the classifier.
      correct: of one image to the corrected one.

    Returns:
      A classifier; weights of `predict` stay leaves.

    Example:
      >>> behind = corrected(lambda x: jnp.stack([0.0, x.mean()]), correct_polynomial)
      >>> behind(jnp.full((8, 8, 1), 0.5)).round(4).tolist()
      [0.0, 0.5]
    """
    return Partial(_behind, as_pytree(correct), as_pytree(predict))


def straight_through(correct: Callable[[Image], Image]) -> Callable[[Image], Image]:
    """A correction whose gradient is taken for that of the identity (BPDA).

    Args:
      correct: of one image to the corrected one.

    Returns:
      The same function with another gradient.

    Example:
      >>> rounded = straight_through(lambda x: jnp.round(8 * x) / 8)
      >>> jax.grad(lambda x: rounded(x).sum())(jnp.full((2, 2, 1), 0.3)).ravel().tolist()
      [1.0, 1.0, 1.0, 1.0]

    Reference: Athalye, Carlini and Wagner, *Obfuscated Gradients Give a False Sense of Security*,
    ICML 2018.
    """
    return Partial(_straight, as_pytree(correct))


def _behind(correct: Any, predict: Any, image: Image) -> Logits:
    return predict(correct(image))


def _straight(correct: Any, image: Image) -> Image:
    return image + jax.lax.stop_gradient(correct(image) - image)


def _seen(image: Image, encoding: Encoding) -> LogField:
    """What is fitted: the logarithm of the exposure, up to a factor."""
    check_image(image)
    if encoding not in get_args(Encoding):
        raise ValueError(f"encoding must be one of {get_args(Encoding)}, got {encoding!r}")
    grey = image.mean(-1)
    return grey if encoding == "log" else jnp.log(jnp.maximum(grey, _DARKEST))


def _without(image: Image, log_field: LogField, encoding: Encoding) -> Image:
    if encoding == "log":
        return clip(image - log_field[..., None], 0, 1)
    return clip(image * jnp.exp(-log_field)[..., None], 0, 1)


def _gaussian(size: int, sigma: Number) -> Float[Array, "n n"]:
    places = np.arange(size) / size
    weights = jnp.exp(-((places[:, None] - places) ** 2) / (2 * sigma**2))
    return (weights / weights.sum(1, keepdims=True)).astype(jnp.float32)
