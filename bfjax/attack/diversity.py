"""What makes an attack hold elsewhere: random views of the image, smooth gradients, ensembles.

A view is `(key, image) -> image`, for `Attack.transform`; `Attack.num_draws` of them are averaged
in each step (expectation over transformations). Rounding passes the gradient straight through.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.attack.transforms import check_kernel, gaussian_kernel, smoothed
from bfjax.field import clip
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import Image, Logits, Params, Perturbation, Predict, PRNGKey, as_key, as_pytree

View = Callable[[PRNGKey, Image], Image]


def resize_and_pad(*, smallest: Number = 0.9, probability: Number = 0.5) -> View:
    """DIM's view: the image shrunk by a random factor and put somewhere into a black frame.

    Args:
      smallest: the factor is drawn evenly from [smallest, 1]; 299/330 is the paper's.
      probability: with which that happens; else the image stays as it is.

    Returns:
      A view; sizes are resampled linearly, without antialiasing.

    Raises:
      ValueError: for a factor outside (0, 1] or a probability outside [0, 1].

    Example:
      >>> view = resize_and_pad(smallest=0.5, probability=1.0)
      >>> float(view(jax.random.key(0), jnp.ones((8, 8, 1))).mean()) < 1
      True

    Reference: Xie et al., Improving Transferability with Input Diversity, CVPR 2019, Eq. 5.
    """
    check_numbers(above=0, at_most=1, smallest=smallest)
    check_numbers(at_least=0, at_most=1, probability=probability)
    return with_numbers(_resize_and_pad, smallest=smallest, probability=probability)


def _resize_and_pad(key: PRNGKey, image: Image, *, smallest: Any, probability: Any) -> Image:
    size, place, coin = jax.random.split(as_key(key), 3)
    factor = _factor(size, smallest)
    room = (1 - factor) * jnp.asarray(image.shape[:2])
    framed = _placed(image, jnp.stack([factor, factor]), room * jax.random.uniform(place, (2,)))
    return jnp.where(jax.random.bernoulli(coin, probability), framed, image)


def random_resize(*, smallest: Number = 0.5) -> View:
    """The image as it comes back from a smaller copy of itself: a loss of fine detail.

    Args:
      smallest: the copy's size, relative to the image's, is drawn evenly from [smallest, 1].

    Returns:
      A view.

    Raises:
      ValueError: for a factor outside (0, 1].

    Example:
      >>> random_resize()(jax.random.key(0), jnp.ones((8, 8, 1))).shape
      (8, 8, 1)
    """
    check_numbers(above=0, at_most=1, smallest=smallest)
    return with_numbers(_random_resize, smallest=smallest)


def _random_resize(key: PRNGKey, image: Image, *, smallest: Any) -> Image:
    factor = jnp.maximum(_factor(as_key(key), smallest), 1 / min(image.shape[:2]))  # one pixel
    scale, none = jnp.stack([factor, factor]), jnp.zeros(2)
    small = _placed(image, scale, none, antialias=True)
    # beyond the small copy lies black: its own border is repeated there before it grows
    last = [jnp.maximum(jnp.floor(n * factor) - 1, 0) for n in image.shape[:2]]
    edge = [jnp.minimum(jnp.arange(n), end) for n, end in zip(image.shape[:2], last, strict=True)]
    small = small[edge[0].astype(int)][:, edge[1].astype(int)]
    return _placed(small, 1 / scale, none)


def random_window(*, level: Number = 0.1, width: Number = 0.2) -> View:
    """Another window and level, as a radiologist's viewer draws them: clip((x − ½ − l) w + ½).

    Args:
      level: l is drawn evenly from ± level, in units of [0, 1].
      width: the gain w is drawn from 1 ± width.

    Returns:
      A view.

    Raises:
      ValueError: for a negative level, or a width outside [0, 1).

    Example:
      >>> view = random_window(level=0.0, width=0.0)
      >>> view(jax.random.key(0), jnp.full((1, 1, 1), 0.25)).item()
      0.25
    """
    check_numbers(at_least=0, level=level)
    check_numbers(at_least=0, below=1, width=width)
    return with_numbers(_random_window, level=level, width=width)


def _random_window(key: PRNGKey, image: Image, *, level: Any, width: Any) -> Image:
    shift, gain = jax.random.uniform(as_key(key), (2,), minval=-1.0)
    seen = clip((image - 0.5 - level * shift) * (1 + width * gain) + 0.5, 0, 1)
    return seen.astype(image.dtype)


def eight_bit(key: PRNGKey | None, image: Image) -> Image:
    """The image as an 8-bit file holds it, round(255 x) / 255; gradients pass straight through.

    Args:
      key: not used.
      image: (h, w, c) in [0, 1].

    Returns:
      (h, w, c).

    Example:
      >>> round(eight_bit(None, jnp.full((1, 1, 1), 0.5)).item(), 4)
      0.502
    """
    del key
    return _straight_through(jnp.round(255 * image) / 255, image)


def jpeg_rounding(*, quality: Number = 75) -> View:
    """The image after JPEG's rounding: 8 × 8 cosine coefficients on the luminance table's grid.

    Chroma is not touched and nothing is encoded: for grey images these are the losses of the
    format. Gradients pass straight through.

    Args:
      quality: 1 to 100, libjpeg's scale.

    Returns:
      A view; rows and columns beyond the last whole block repeat the border.

    Raises:
      ValueError: for another quality.

    Example:
      >>> view = jpeg_rounding(quality=100)
      >>> float(abs(view(None, jnp.full((8, 8, 1), 0.5)) - 0.5).max()) < 0.01
      True

    Reference: ITU-T T.81, Annex A.3.3 and table K.1.
    """
    check_numbers(at_least=1, at_most=100, quality=quality)
    return with_numbers(_jpeg_rounding, quality=quality)


def _jpeg_table(quality: Any) -> Float[Array, "8 8"]:
    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    return jnp.clip(jnp.floor((_LUMINANCE * scale + 50) / 100), 1, 255)


def _jpeg_rounding(key: PRNGKey | None, image: Image, *, quality: Any) -> Image:
    del key
    k, n = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    cosines = np.cos(np.pi * (2 * n + 1) * k / 16) * np.where(k == 0, np.sqrt(1 / 8), 0.5)
    table = _jpeg_table(quality)
    h, w, c = image.shape
    whole = jnp.pad(image, ((0, -h % 8), (0, -w % 8), (0, 0)), mode="edge")
    blocks = whole.reshape(whole.shape[0] // 8, 8, whole.shape[1] // 8, 8, c)
    blocks = 255 * blocks.astype(jnp.float32) - 128
    sums = functools.partial(jnp.einsum, precision="highest")
    dct = sums("ki,aibjc,lj->akblc", cosines, blocks, cosines)
    steps = table[None, :, None, :, None]
    rounded = jnp.round(dct / steps) * steps
    back = sums("ki,akblc,lj->aibjc", cosines, rounded, cosines)
    back = jnp.clip(jnp.round(back + 128), 0, 255).reshape(whole.shape)[:h, :w] / 255
    return _straight_through(back.astype(image.dtype), image)


def smooth_gradient(
    perturbation: Perturbation, *, size: int = 15, sigma: Number = 7 / 3
) -> Perturbation:
    """The same perturbation, its gradient smoothed while it is still an image (TI).

    X_a is unchanged; what comes back through it is convolved with a Gaussian, and only then
    reaches the parameters. For free pixels this is `gaussian_smoothing`.

    Args:
      perturbation: for instance a bias field.
      size: of the kernel, an odd number of pixels.
      sigma: of the Gaussian, in pixels.

    Returns:
      A `Perturbation`.

    Raises:
      ValueError: for an even size or a sigma that is not positive.

    Example:
      >>> import bfjax
      >>> attack = bfjax.attacks.bias_field((8, 8), degree=2, grid_size=2)
      >>> smooth_gradient(attack.perturbation).init == attack.perturbation.init
      True

    Reference: Dong et al., Evading Defenses by Translation-Invariant Attacks, CVPR 2019, Eq. 7.
    """
    check_kernel(size, sigma)
    apply = Partial(_apply_smoothly, Partial(_gaussian(size)), as_pytree(perturbation.apply))
    return perturbation._replace(apply=with_numbers(apply, sigma=sigma))


def ensemble(predicts: Sequence[Predict]) -> Partial:
    """Several classifiers as one: the mean of their logits.

    Args:
      predicts: classifiers of the same classes.

    Returns:
      A `Predict`; the weights of its members stay leaves.

    Raises:
      ValueError: for an empty sequence; when traced, for other outputs of one than of another.

    Example:
      >>> both = ensemble([lambda x: x[0, :2, 0], lambda x: -x[0, :2, 0]])
      >>> both(jnp.ones((1, 2, 1))).tolist()
      [0.0, 0.0]

    Reference: Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018, section 3.4.
    """
    if not predicts:
        raise ValueError("an ensemble has at least one classifier")
    return Partial(_mean_logits, tuple(map(as_pytree, predicts)))


def _mean_logits(predicts: tuple, image: Image) -> Logits:
    answers = [predict(image) for predict in predicts]
    if len({answer.shape for answer in answers}) > 1:
        shapes = ", ".join(str(answer.shape) for answer in answers)
        raise ValueError(f"the members of an ensemble have other outputs each: {shapes}")
    return jnp.mean(jnp.stack(answers), 0)


def _placed(image: Image, scale: Array, offset: Array, *, antialias: bool = False) -> Image:
    translation = offset.astype(jnp.float32)
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale, translation, "linear", antialias=antialias
    )


def _factor(key: PRNGKey, smallest: Any) -> Array:
    """Evenly from [smallest, 1]."""
    return jax.random.uniform(key, minval=smallest, maxval=1.0)


def _straight_through(value: Image, image: Image) -> Image:
    return image + jax.lax.stop_gradient(value - image)


def _apply_smoothly(kernel: Any, apply: Any, params: Params, image: Image, *, sigma: Any) -> Image:
    return _smooth_backwards(kernel(sigma), apply(params, image))


@functools.cache  # one function a size: equal attacks share a compilation
def _gaussian(size: int) -> Callable[[Any], Array]:
    return functools.partial(gaussian_kernel, size)


@jax.custom_vjp
def _smooth_backwards(kernel: Float[Array, " size"], image: Image) -> Image:
    """The image itself; what comes back to it is smoothed."""
    del kernel
    return image


_smooth_backwards.defvjp(
    lambda kernel, image: (image, kernel),
    lambda kernel, g: (jnp.zeros_like(kernel), smoothed(g, kernel)),
)


_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Table K.1 of ITU-T T.81."""
