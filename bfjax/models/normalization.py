"""What a classifier expects of its images, where that is not [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.types import Image, Logits, Predict, as_pytree

_XRV = (-1024.0, 1024.0)
_ENDS = "two numbers, for black and white, or 'xrv'"


def normalized(
    predict: Predict,
    *,
    input_range: Sequence[float] | Literal["xrv"] = (0.0, 1.0),
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
) -> Partial:
    """A classifier of images in [0, 1], of one that expects another range, or normalised images.

    Of an image X it gets (low + (high − low) X − μ) / σ. Normalisation is that of PyTorch's
    loaders, and comes after the range: give μ and σ in its units.

    Args:
      predict: the classifier.
      input_range: low and high, what it expects for black and white, such as (0, 255); or
        ``"xrv"``, torchxrayvision's (-1024, 1024).
      mean: μ, one number or one a channel; absent it is 0.
      std: σ, likewise; absent it is 1.

    Returns:
      A `Predict`; the numbers and the classifier's weights are leaves.

    Raises:
      ValueError: a range without extent, a number that is not finite, σ that is not positive, or
        another number of channels than the image's.

    Example:
      >>> from bfjax.models import normalized
      >>> predict = normalized(lambda image: image[0, 0], input_range=(0, 255), mean=(55, 105, 155))
      >>> predict(jnp.ones((4, 4, 1))).tolist()
      [200.0, 150.0, 100.0]
    """
    is_xrv = isinstance(input_range, str) and input_range == "xrv"
    ends = _numbers("input_range", _XRV if is_xrv else input_range, _ENDS)
    means, stds = (
        _numbers(name, given, "one number, or one a channel").reshape(-1)
        for name, given in (("mean", mean), ("std", std))
    )
    for name, numbers in (("input_range", ends), ("mean", means), ("std", stds)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name} is {numbers.tolist()}, and must be finite")
    if ends.shape != (2,) or ends[0] == ends[1]:
        raise ValueError(f"input_range is {ends.tolist()}: {_ENDS}")
    if (stds <= 0).any():
        raise ValueError(f"std is {stds.tolist()}, and must be positive")
    if len({means.size, stds.size} - {0, 1}) > 1:
        raise ValueError(f"mean is of {means.size} channels, std of {stds.size}")
    means, stds = means if means.size else np.zeros(1), stds if stds.size else np.ones(1)
    scale, shift = (ends[1] - ends[0]) / stds, (ends[0] - means) / stds
    scale = np.broadcast_to(scale, shift.shape)
    return Partial(_call, jnp.asarray(scale), jnp.asarray(shift), as_pytree(predict))


def _numbers(name: str, given: Any, allowed: str) -> np.ndarray:
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {given!r}: {allowed}") from None


def _call(
    scale: Float[Array, " channels"],
    shift: Float[Array, " channels"],
    predict: Predict,
    image: Image,
) -> Logits:
    if image.shape[-1] != 1 and scale.size not in (1, image.shape[-1]):
        raise ValueError(f"mean and std are of {scale.size} channels, the image is {image.shape}")
    scale, shift = (a.astype(image.dtype)[None, None] for a in (scale, shift))
    return predict(image * scale + shift)
