"""What is timed without a network, and the images of all that is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bfjax

Work = tuple[Callable[[], Any], dict[str, Any]]
"""What is timed, and facts about it, such as `flops`."""

SIZE = 224


def batch_of(batch: int, dtype: str = "float32", side: int = SIZE) -> tuple[jax.Array, jax.Array]:
    """Random images of three channels, and labels."""
    values = np.random.default_rng(0).uniform(size=(batch, side, side, 3))
    return jnp.asarray(values, as_array(dtype)), jnp.zeros(batch, jnp.int32)


def as_array(dtype: str) -> str:
    """What an array is of where products are made in `dtype`."""
    return "float32" if dtype == "tf32" else dtype


def brisque(batch: int, side: int = SIZE) -> Work:
    """Our BRISQUE of a batch of grey images."""
    images = batch_of(batch, side=side)[0][..., :1]
    score = jax.jit(jax.vmap(bfjax.metrics.brisque))
    return lambda: score(images), {}


def opencv_brisque(batch: int, side: int = SIZE) -> Work:
    """OpenCV's features of BRISQUE, nearly all of its work, one image after the other."""
    import cv2

    images = np.rint(255 * np.asarray(batch_of(batch, side=side)[0][..., 0])).astype(np.uint8)
    features: Any = getattr(cv2.quality, "QualityBRISQUE_computeFeatures")  # noqa: B009  untyped
    return lambda: [features(image) for image in images], {}
