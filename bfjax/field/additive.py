"""Perturbations without a model of the field: free pixels, a free log field (Eq. 3), and sums."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from bfjax.field.clipping import clip
from bfjax.field.perturbation import Encoding, bias_field, check_image, with_noise
from bfjax.field.polynomial_tps import itself
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import Field, Image, LogField, Params, Perturbation, PRNGKey, as_key, as_pytree


def additive(*, start_noise: Number | None = None) -> Perturbation:
    """Free pixels: the params are the perturbed image X_a itself.

    The bound belongs to the projection (`bfjax.attack.image_ball`): a δ clipped inside `apply`
    would lose the gradient at the border.

    Args:
      start_noise: half-width of the uniform noise that the attack starts from, cut to [0, 1]; it
        then needs a key. `None` starts at the image.

    Returns:
      A `Perturbation`.

    Raises:
      ValueError: for a negative noise.

    Example:
      >>> perturbation = additive()
      >>> image = jnp.full((1, 1, 1), 0.5)
      >>> bool((perturbation.init(image, None) == image).all())
      True
    """
    return Perturbation(init=_start(_image, start_noise), apply=Partial(_given))


def free_log_field(
    *,
    start_noise: Number | None = None,
    max_change: Number | None = None,
    offset: Number | None = None,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
) -> Perturbation:
    """Eq. 3: X_a = clip(X · exp(B̂)), B̂ free at every pixel and bounded by the projection.

    It is `bias_field(pixelwise(shape))` for images of any size.

    Args:
      start_noise: half-width of the uniform noise that B̂ starts from; it then needs a key. `None`
        starts at B̂ = 0.
      max_change: as for `bias_field`.
      offset: as for `bias_field`.
      encoding: as for `bias_field`; with `"log"` B̂ is free pixels, in units of γ.
      gamma: as for `bias_field`.

    Returns:
      A `Perturbation` whose params are B̂, (h, w).

    Raises:
      ValueError: for a negative noise or offset, or a bound that is not positive; and as
        `bias_field` of the encoding.

    Example:
      >>> perturbation = free_log_field()
      >>> image = jnp.full((1, 1, 1), 0.5)
      >>> perturbation.apply(jnp.log(jnp.asarray([[1.5]])), image).item()
      0.75

    Reference: Tian et al., ICME 2021, Eq. 3.
    """
    free = Field(init=_nowhere, log_field=itself)
    perturbation = bias_field(
        free, max_change=max_change, offset=offset, encoding=encoding, gamma=gamma
    )
    return perturbation._replace(init=_start(_no_field, start_noise))


def compose(perturbations: Sequence[Perturbation]) -> Perturbation:
    """One after the other: a field and noise at once, for instance.

    Args:
      perturbations: applied in this order; an `additive` one only makes sense first, since its
        params replace the image.

    Returns:
      A `Perturbation` whose params are the tuple of theirs; its log field is the sum of those that
      have one.

    Raises:
      ValueError: for an empty sequence.

    Example:
      >>> both = compose([free_log_field(), free_log_field()])
      >>> half = jnp.log(jnp.full((1, 1), 0.5))
      >>> both.apply((half, half), jnp.ones((1, 1, 1))).item()
      0.25
    """
    if not perturbations:
        raise ValueError("nothing to compose")
    parts = tuple(map(as_pytree, perturbations))
    fields = [i for i, part in enumerate(parts) if part.log_field is not None]
    log_field = Partial(_sum_of_fields, parts) if fields else None
    return Perturbation(
        init=Partial(_init_all, parts), apply=Partial(_apply_all, parts), log_field=log_field
    )


def _start(zero: Any, noise: Any) -> Partial:
    """Where the params start: `zero(image)`, with uniform noise where that is asked for."""
    if noise is None:
        return Partial(_at_rest, Partial(zero))
    check_numbers(at_least=0, start_noise=noise)
    return with_numbers(Partial(_at_random, Partial(zero)), start_noise=noise)


def _at_rest(zero: Any, image: Image, key: PRNGKey | None) -> Params:
    del key
    check_image(image)
    return zero(image)


def _at_random(zero: Any, image: Image, key: PRNGKey | None, *, start_noise: Any) -> Params:
    check_image(image)
    if key is None:
        raise ValueError("a random start needs a key: pass key=jax.random.key(...)")
    params = zero(image)
    return with_noise(start_noise, params, as_key(key))


def _image(image: Image) -> Image:
    return image


def _no_field(image: Image) -> LogField:
    return jnp.zeros(image.shape[:2], image.dtype)


def _given(params: Image, image: Image) -> Image:
    check_image(image)
    return clip(params, 0, 1)


def _nowhere() -> LogField:
    raise NotImplementedError("a free log field is as large as its image: see init")


def _init_all(parts: tuple, image: Image, key: PRNGKey | None) -> tuple:
    keys = [None] * len(parts) if key is None else jax.random.split(as_key(key), len(parts))
    return tuple(part.init(image, k) for part, k in zip(parts, keys, strict=True))


def _apply_all(parts: tuple, params: tuple, image: Image) -> Image:
    for part, own in zip(parts, params, strict=True):
        image = part.apply(own, image)
    return image


def _sum_of_fields(parts: tuple, params: tuple) -> LogField:
    pairs = zip(parts, params, strict=True)
    fields = [part.log_field(own) for part, own in pairs if part.log_field is not None]
    return functools.reduce(jnp.add, fields)
