"""Where an attack works: maps of the regions that it needs to lower the true label's score (Eq. 8).

Convention:
    A map is the mask M, which is 1 where the attacked image is shown and 0 where the clean one is:
    large where the classifier is sensitive to the attack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from bfjax.attack import is_wrong, run, run_batch
from bfjax.explain.maps import Map, upsample
from bfjax.explain.mask import MapOptions, Mask, first_of_pair, mask_attack, pair
from bfjax.types import AttackResult, Image, Label, Predict


class SensitivityMap(NamedTuple):
    """Where one image's attack works.

    Attributes:
      map: (h, w) in [0, 1], the mask at the size of the image.
      mask: M at its own resolution, in [0, 1].
      score: (num_steps,), the true label's score at the mask that each step started from; the
        first one is that of the starting mask.
      flips: whether the classifier still errs on the image that the last mask makes.
    """

    map: Map
    mask: Mask
    score: Float[Array, " steps"]
    flips: Bool[Array, ""]


def sensitivity_map(
    predict: Predict,
    image: Image,
    adversarial: Image,
    label: Label,
    **options: Unpack[MapOptions],
) -> SensitivityMap:
    """Where an attack works: argmin_M DNN_y(M⊙X_a + (1−M)⊙X) + λ1‖M‖₁ + λ2 TV(M) (Eq. 8).

    Args:
      predict: the classifier, one image to logits.
      image: X, the clean image, (h, w, c) in [0, 1].
      adversarial: X_a, the attacked one, of the same shape.
      label: the true class y.
      **options: those of `mask_attack`, for instance `num_steps=150`, `l1=0.05`, `tv=0.2`.

    Returns:
      A `SensitivityMap`.

    Raises:
      ValueError: naming the option that is out of range; when traced, for images of different
        shapes, or smaller than the mask.

    Example:
      >>> predict = lambda image: jnp.stack([image[:4].mean() - 0.5, 0.5 - image[:4].mean()]) * 20
      >>> clean, attacked = jnp.full((8, 8, 1), 0.7), jnp.full((8, 8, 1), 0.3)
      >>> found = sensitivity_map(predict, clean, attacked, 0, num_steps=30, mask_size=4)
      >>> bool(found.flips), bool(found.map[:3].min() > found.map[5:].max())
      (True, True)

    Reference: Tian et al., ICME 2021, Eq. 8, after Fong and Vedaldi, Interpretable Explanations of
    Black Boxes by Meaningful Perturbation, ICCV 2017.
    """
    attack = mask_attack(**options)
    result = run(attack, first_of_pair(predict), pair(image, adversarial), label)
    return _read(result, label)


def sensitivity_map_batch(
    predict: Predict,
    images: Float[Array | np.ndarray, "batch h w c"],
    adversarials: Float[Array | np.ndarray, "batch h w c"],
    labels: Integer[Array | np.ndarray, "batch ..."],
    *,
    on_step: Callable[[int], object] | None = None,
    **options: Unpack[MapOptions],
) -> SensitivityMap:
    """The maps of a batch, `bfjax.run_batch` of the same loop: `jax.vmap` of `sensitivity_map`.

    Args:
      predict: the classifier of one image.
      images: (batch, h, w, c), float in [0, 1].
      adversarials: of the same shape.
      labels: (batch,), the true classes; (batch, heads) of 0 and 1 for several labels.
      on_step: called after each step with the number of steps done.
      **options: those of `mask_attack`.

    Returns:
      A `SensitivityMap` whose leaves have a leading axis of `batch`.

    Raises:
      ValueError: as `sensitivity_map` does, and for values that `bfjax.run_batch` refuses in
        either image.

    Example:
      >>> predict = lambda image: jnp.stack([image[:4].mean() - 0.5, 0.5 - image[:4].mean()]) * 20
      >>> clean = np.full((3, 8, 8, 1), 0.7, np.float32)
      >>> labels = np.zeros(3, int)
      >>> found = sensitivity_map_batch(predict, clean, 1 - clean, labels, mask_size=4, num_steps=5)
      >>> found.map.shape, found.score.shape
      ((3, 8, 8), (3, 5))
    """
    pairs = pair(images, adversarials)
    attack = mask_attack(**options)
    result = run_batch(attack, first_of_pair(predict), pairs, labels, on_step=on_step)
    return jax.vmap(_read)(result, jnp.asarray(labels))


def _read(result: AttackResult, label: Label) -> SensitivityMap:
    h, w, _ = result.adversarial.shape
    whole = upsample(result.params, (h, w))
    return SensitivityMap(
        map=jnp.clip(whole, 0, 1),
        mask=result.params,
        score=-result.trace.loss,
        flips=is_wrong(result.logits, label),
    )
