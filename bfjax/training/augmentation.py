"""Random variants of a training image: what other machines and other patients might look like."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from bfjax.field import polynomial_tps
from bfjax.types import Image, LogField, PRNGKey


class Augmentation(NamedTuple):
    """How far each change may go; by default nothing is changed.

    Attributes:
      flip: whether half of the images are mirrored left to right.
      shift: the largest shift, as a share of the side.
      rotation: the largest rotation, in degrees.
      scale: the largest relative change of height and of width, each drawn alone.
      brightness: the largest change of brightness, in units of [0, 1].
      contrast: the largest relative change of contrast.
      bias_field: the largest random smooth bias field, as |log B|.
    """

    flip: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    bias_field: float = 0.0


def augment(key: PRNGKey, image: Image, *, augmentation: Augmentation) -> Image:
    """A random variant of an image: mirrored, turned, scaled, shifted, of other contrast.

    ``x ↦ clip(c (x B − mean) + mean + b, 0, 1)``, c in 1 ± contrast, b in ± brightness, B a
    `random_field`; what a movement uncovers repeats the border.

    Args:
      key: of the drawing.
      image: (h, w, c) in [0, 1].
      augmentation: how far each change may go.

    Returns:
      (h, w, c) in [0, 1].

    Example:
      >>> image = jax.numpy.ones((4, 4, 1)) / 2
      >>> augment(jax.random.key(0), image, augmentation=Augmentation()).max().item()
      0.5
    """
    flip, turn, shift, bright, contrast = jax.random.split(key, 5)
    if augmentation.flip:
        image = jnp.where(jax.random.bernoulli(flip), image[:, ::-1], image)
    if augmentation.rotation or augmentation.scale:
        angle, *scales = jax.random.uniform(turn, (3,), minval=-1.0)
        angle = jnp.deg2rad(augmentation.rotation) * angle
        image = _turned(image, angle, *(1 + augmentation.scale * s for s in scales))
    if reach := round(augmentation.shift * image.shape[0]):
        padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        y, x = jax.random.randint(shift, (2,), 0, 2 * reach + 1)
        image = jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)
    if augmentation.bias_field:
        # folded in, and not a sixth of the split: without it the other draws stay what they were
        height, width, _ = image.shape
        shade = jax.random.fold_in(key, 5)
        log_field = random_field(shade, (height, width), strength=augmentation.bias_field)
        image = image * jnp.exp(log_field)[..., None]
    c = 1 + augmentation.contrast * jax.random.uniform(contrast, minval=-1.0)
    b = augmentation.brightness * jax.random.uniform(bright, minval=-1.0)
    mean = image.mean()
    return jnp.clip(c * (image - mean) + mean + b, 0, 1)


def _turned(image: Image, angle: Scalar, tall: Scalar, wide: Scalar) -> Image:
    """The image turned about its centre and stretched, bilinearly, its border repeated."""
    centre = (jnp.asarray(image.shape[:2]) - 1) / 2
    y, x = (jnp.arange(n) - c for n, c in zip(image.shape[:2], centre, strict=True))
    y, x = jnp.meshgrid(y, x, indexing="ij")
    y, x = y / tall, x / wide
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    source = [cos * y + sin * x + centre[0], cos * x - sin * y + centre[1]]
    sample = functools.partial(
        jax.scipy.ndimage.map_coordinates, coordinates=source, order=1, mode="nearest"
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def random_field(key: PRNGKey, shape: tuple[int, int], *, strength: float) -> LogField:
    """A random smooth log bias field: the polynomial of Eq. 4 up to degree 3, unwarped.

    Its coefficients are drawn from N(0, 1), then the field is scaled so that its largest absolute
    value is drawn evenly from [0, strength].

    Args:
      key: of the drawing.
      shape: (h, w).
      strength: bound of the absolute log field.

    Returns:
      (h, w).

    Example:
      >>> drawn = random_field(jax.random.key(0), (8, 8), strength=0.5)
      >>> drawn.shape, bool(0 < abs(drawn).max() <= 0.5)
      ((8, 8), True)
    """
    shade, size = jax.random.split(key)
    field = polynomial_tps(shape, degree=3, grid_size=2, terms="total")
    identity = field.init()
    coefficients = jax.random.normal(shade, identity.coefficients.shape)
    drawn = field.log_field(identity._replace(coefficients=coefficients))
    return drawn * (strength * jax.random.uniform(size) / jnp.abs(drawn).max())


def resized(image: Image, size: int | None) -> Float[Array, "new_h new_w c"]:
    """An image brought to another side, each new pixel the mean of what it covers.

    Args:
      image: (h, w, c).
      size: the side; None, or the one it has, for the image itself.

    Returns:
      (size, size, c).

    Example:
      >>> resized(jnp.asarray([[[0.0], [1.0]], [[1.0], [0.0]]]), 1).item()
      0.5
    """
    if size is None or image.shape[:2] == (size, size):
        return image
    return jax.image.resize(image, (size, size, image.shape[-1]), "linear")
