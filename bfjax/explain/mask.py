"""The attack behind Eq. 8: a mask between a clean image and an attacked one, optimised.

Convention:
    The mask M is 1 where the attacked image X_a is shown and 0 where the clean image X is.

The loop is that of every attack, `bfjax.run`. What differs from image to image is the pair
(X, X_a), so the pair is the loop's image: (h, w, 2c), the clean image's channels first. One
`Attack` then serves all images, `run_batch` takes and checks them as any batch, and no image
becomes a constant of the compiled step. The mask turns (X, X_a) into (M⊙X_a + (1−M)⊙X, X_a), of
which the classifier sees the first half.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Scalar

from bfjax.attack import Reduction, targeted, with_hyperparameters
from bfjax.explain.maps import check_same, upsample
from bfjax.explain.score import probability
from bfjax.field import check_image
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import (
    Attack,
    Image,
    Logits,
    Loss,
    Perturbation,
    Predict,
    PRNGKey,
    as_pytree,
)

Mask = Float[Array, "m n"]
Pair = Float[Array, "h w c2"]


class MapOptions(TypedDict, total=False):
    """The options of `mask_attack`, which says more of them.

    Attributes:
      num_steps: iterations.
      l1: λ1.
      tv: λ2.
      mask_size: the mask's resolution.
      start: M at the start, everywhere.
      score: DNN_y.
      reduction: how the norms add up.
      tv_exponent: β of `total_variation`.
      step_size: of Adam.
      optimizer: any optax transformation in place of Adam.
    """

    num_steps: int
    l1: Number
    tv: Number
    mask_size: int | tuple[int, int]
    start: Number
    score: Loss
    reduction: Reduction
    tv_exponent: Number
    step_size: Number
    optimizer: optax.GradientTransformation | None


def mask_attack(
    *,
    num_steps: int = 150,
    l1: Number = 0.05,
    tv: Number = 0.2,
    mask_size: int | tuple[int, int] = 28,
    start: Number = 1.0,
    score: Loss = probability,
    reduction: Reduction = "mean",
    tv_exponent: Number = 3.0,
    step_size: Number = 0.1,
    optimizer: optax.GradientTransformation | None = None,
) -> Attack:
    """The attack that `sensitivity_map` runs: a mask × −score and penalty × Adam × clamp (Eq. 8).

    Its images are pairs: run it on `pair(image, adversarial)` against `first_of_pair(predict)`.
    Where the paper leaves a detail open, the default is the custom of the code it descends from;
    of the alternatives in experiments/results/map_options only finer masks order pixels better.

    Args:
      num_steps: iterations.
      l1: λ1, in units of the score: a logit, which has no bound, wants a larger one.
      tv: λ2, likewise.
      mask_size: the mask's resolution, one number or (rows, columns), not larger than the image.
      start: M at the start, everywhere. 1 begins with the whole attack and takes away what it does
        not need; 0 begins with the clean image, where a classifier that is sure has little slope.
      score: DNN_y, `(logits, label) -> scalar`: `probability`, `logit` or your own.
      reduction: whether ‖M‖₁ and TV are the `"mean"` or the `"sum"` over the mask.
      tv_exponent: β of `total_variation`.
      step_size: of Adam.
      optimizer: any optax transformation in place of Adam, whose step size is not used then.

    Returns:
      An `Attack` whose params are the mask, and whose perturbed image is again a pair, the masked
      image first.

    Raises:
      ValueError: naming the option that is out of range; when traced, for an image that is no
        pair or smaller than the mask.

    Example:
      >>> import bfjax
      >>> predict = lambda image: 9 * jnp.stack([image.mean() - 0.5, 0.5 - image.mean()])
      >>> pairs = pair(jnp.full((2, 8, 8, 1), 0.7), jnp.full((2, 8, 8, 1), 0.3))
      >>> attack = mask_attack(mask_size=4, num_steps=3)
      >>> bfjax.run_batch(attack, first_of_pair(predict), pairs, jnp.zeros(2, int)).params.shape
      (2, 4, 4)

    Reference: Tian et al., ICME 2021, Eq. 8.
    """
    rows, columns = (mask_size, mask_size) if isinstance(mask_size, int) else mask_size
    check_numbers(at_least=0, l1=l1, tv=tv)
    if min(rows, columns) < 1:
        raise ValueError(f"mask_size must be at least 1, got {mask_size}")
    check_numbers(at_least=0, at_most=1, start=start)
    check_numbers(above=0, step_size=step_size)
    _check_norm(tv_exponent, reduction)
    static = _Static((rows, columns), reduction)
    penalty = with_numbers(Partial(_penalty, static), l1=l1, tv=tv, tv_exponent=tv_exponent)
    return Attack(
        perturbation=Perturbation(with_numbers(Partial(_start, static), start=start), _blend),
        loss=targeted(score),  # what the loop raises: −score
        penalty=penalty,
        optimizer=optimizer or with_hyperparameters(optax.adam, learning_rate=step_size),
        project=_clamp,
        num_steps=num_steps,
    )


def pair(
    image: Float[Array | np.ndarray, "*batch h w c"],
    adversarial: Float[Array | np.ndarray, "*batch h w c"],
) -> Float[Array, "*batch h w c2"]:
    """X and X_a as one image of twice the channels, what `mask_attack` masks.

    Args:
      image: X, (h, w, c), or a batch of them.
      adversarial: X_a, of the same shape.

    Returns:
      (h, w, 2c), the channels of X first.

    Raises:
      ValueError: when traced, for shapes that differ.

    Example:
      >>> pair(jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1))).tolist()
      [[[0.0, 1.0]]]
    """
    check_same(image, adversarial)
    return jnp.concatenate([image, adversarial], axis=-1)


def first_of_pair(predict: Predict) -> Predict:
    """The classifier that looks at the first image of a pair.

    Args:
      predict: a classifier of one image; weights that it holds stay leaves.

    Returns:
      A classifier of (h, w, 2c).

    Example:
      >>> first_of_pair(lambda image: image.ravel())(jnp.asarray([[[0.25, 1.0]]])).tolist()
      [0.25]
    """
    return Partial(_of_first, as_pytree(predict))


def total_variation(mask: Mask, *, exponent: Number = 3.0, reduction: Reduction = "mean") -> Scalar:
    """TV(M) = Σ |M_{i+1,j} − M_{i,j}|^β + Σ |M_{i,j+1} − M_{i,j}|^β.

    Its gradient is zero between equal neighbours, for β = 1 too.

    Args:
      mask: (m, n).
      exponent: β, at least 1: 1 is the total variation proper, 3 lets small steps pass.
      reduction: `"sum"`, or `"mean"` over the vertical plus that over the horizontal differences.

    Returns:
      A number, not negative.

    Raises:
      ValueError: for an exponent below 1 or an unknown reduction.

    Example:
      >>> total_variation(jnp.asarray([[0.0, 2.0]]), exponent=3).item()
      8.0
    """
    _check_norm(exponent, reduction)
    differences = (jnp.diff(mask, axis=axis) for axis in (0, 1))
    # |·| as sign(d)·d: jnp.abs has slope 1 at 0
    down, right = (_reduced((jnp.sign(d) * d) ** exponent, reduction) for d in differences)
    return down + right


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Static:
    size: tuple[int, int]
    reduction: Reduction


def _check_norm(exponent: Any, reduction: Reduction) -> None:
    check_numbers(at_least=1, **{"the exponent of TV": exponent})
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {get_args(Reduction)}, got {reduction!r}")


def _reduced(x: Array, reduction: Reduction) -> Scalar:
    # a mask of one row has no vertical differences, whose mean is then 0
    return x.sum() / (max(x.size, 1) if reduction == "mean" else 1)


def _start(static: _Static, image: Pair, key: PRNGKey | None, *, start: Any) -> Mask:
    del key
    check_image(image)
    mask = jnp.full(static.size, start, jnp.promote_types(image.dtype, jnp.float32))
    upsample(mask, (image.shape[0], image.shape[1]))  # raises where it is the larger one
    return mask


def _blend(mask: Mask, image: Pair) -> Pair:
    clean, adversarial = _halves(image)
    shown = upsample(mask, (image.shape[0], image.shape[1]))[..., None]
    # X + M⊙(X_a − X): where both are equal the mask has no slope at all, which Adam would magnify
    blend = clean + shown * (adversarial - clean)
    # rounding may leave [0, 1]; mending that must not cost the slope of pixels at the bound
    blend += jax.lax.stop_gradient(jnp.clip(blend, 0, 1) - blend)
    return jnp.concatenate([blend.astype(image.dtype), adversarial], axis=-1)


def _penalty(static: _Static, mask: Mask, *, l1: Any, tv: Any, tv_exponent: Any) -> Scalar:
    norm = _reduced(mask, static.reduction)  # M ≥ 0: its L1 norm is its sum
    variation = total_variation(mask, exponent=tv_exponent, reduction=static.reduction)
    return l1 * norm + tv * variation


def _clamp(mask: Mask, image: Pair) -> Mask:
    del image
    return jnp.clip(mask, 0, 1)


def _of_first(predict: Predict, image: Pair) -> Logits:
    return predict(_halves(image)[0])


def _halves(image: Pair) -> tuple[Image, Image]:
    if image.shape[-1] % 2:
        raise ValueError(f"a pair of images is (h, w, 2c), got {image.shape}: see explain.pair")
    clean, adversarial = jnp.split(image, 2, axis=-1)
    return clean, adversarial
