"""Perturbations made of fields: X_a = X · exp(B̂), clipped (Eq. 1 and 2).

Convention:
    Clipping keeps the gradient on the closed interval: it passes in full at exactly 0, at exactly
    1 and at exactly X ± max_change, and is zero outside (PyTorch's convention; `jnp.clip` passes
    half of it there). X-rays have black borders, which lie exactly on the bound.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.field.polynomial_tps import PolynomialTPSParams
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import Field, Image, LogField, Params, Perturbation, PRNGKey, as_key, as_pytree

# exp(±80) fits float32 with room for its gradient; 16-bit images saturate to black or white long
# before. Without a bound exp overflows, and a black pixel makes 0 · inf = NaN.
_FINITE = 80.0


def bias_field(
    field: Field,
    *,
    max_change: Number | None = None,
    max_log_field: Number | None = None,
    offset: Number | None = None,
    start_noise: Number | None = None,
) -> Perturbation:
    """Multiplies the image by a bias field: X_a = clip(X · exp(B̂)) (Eq. 1, 2).

    The logarithm of the image is never taken: black stays black. At B̂ = 0 the image comes back
    exactly. Grey and RGB images take the same (h, w) field on every channel.

    Args:
      field: the log field B̂, for instance `polynomial_tps`.
      max_change: ε, in units of the image's range [0, 1]: X_a is also clipped to X ± ε. `None`
        leaves only the clip to [0, 1].
      max_log_field: a bound on |B̂|, by clipping it at every pixel (no gradient beyond). `None`
        means 80, which only keeps exp finite. To bound it by scaling, see `limit_log_field`.
      offset: o in log(X + o) + B̂, the other reading of Eq. 2: X_a = (X + o) · exp(B̂) − o. With
        o > 0 black pixels change too. `None` is Eq. 2 as it stands.
      start_noise: half-width of the uniform noise added to every parameter at the start; it then
        needs a key. `None` starts at the field's identity.

    Returns:
      A `Perturbation`. `apply(params, image)` raises ValueError, when traced, for an image that is
      not (h, w, c) of floats or whose size is not the field's.

    Raises:
      ValueError: for a bound that is not positive, a negative offset or noise.

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax.field import pixelwise
      >>> perturbation = bias_field(pixelwise((1, 1)), max_change=0.1)
      >>> perturbation.apply(jnp.asarray([[1.0]]), jnp.asarray([[[0.5]]]))
      Array([[[0.6]]], dtype=float32)

    Reference: Tian et al., ICME 2021, Eq. 1 and 2.
    """
    check_numbers(above=0, max_change=max_change, max_log_field=max_log_field)
    check_numbers(at_least=0, offset=offset, start_noise=start_noise)
    field = as_pytree(field)
    bounded = with_numbers(Partial(_bounded, field.log_field), max_log_field=max_log_field)
    return Perturbation(
        init=with_numbers(Partial(_start, field.init), start_noise=start_noise),
        apply=with_numbers(Partial(_apply, bounded), max_change=max_change, offset=offset),
        log_field=bounded,
    )


def _start(identity, image: Image, key: PRNGKey | None, *, start_noise: Any) -> Params:
    check_image(image)
    params = identity()
    if start_noise is None:
        return params
    if key is None:
        raise ValueError("a random start needs a key: pass key=jax.random.key(...)")
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(as_key(key), len(leaves))
    return treedef.unflatten(map(functools.partial(with_noise, start_noise), leaves, keys))


def with_noise(half_width: Any, leaf: Float[Array, "*shape"], key: PRNGKey) -> Array:
    """A part of the parameters with uniform noise.

    Args:
      half_width: of the noise.
      leaf: any shape.
      key: of this part.

    Returns:
      The same shape and type.

    Example:
      >>> with_noise(0.0, jnp.ones(1), jax.random.key(0)).tolist()
      [1.0]
    """
    noise = half_width * jax.random.uniform(key, leaf.shape, leaf.dtype, -1, 1)
    return leaf + noise.astype(leaf.dtype)  # a number may be of a wider type


def _bounded(log_field_of, params: Params, *, max_log_field: Any) -> LogField:
    bound = _FINITE if max_log_field is None else jnp.minimum(max_log_field, _FINITE)
    return clip(log_field_of(params), -bound, bound)


def _apply(bounded, params: Params, image: Image, *, max_change: Any, offset: Any) -> Image:
    check_image(image)
    log_field = bounded(params)[..., None]
    if log_field.shape[:2] != image.shape[:2]:
        raise ValueError(f"the field is {log_field.shape[:2]}, the image {image.shape[:2]}")
    perturbed = image * jnp.exp(log_field)
    if offset is not None:
        perturbed += offset * jnp.expm1(log_field)
    low, high = 0.0, 1.0
    if max_change is not None:
        low = jnp.maximum(low, image - max_change)
        high = jnp.minimum(high, image + max_change)
    return clip(perturbed, low, high).astype(image.dtype)


def limit_log_field(field: Field, maximum: Number) -> Partial:
    """A projection that bounds |B̂| by scaling instead of clipping, so the field stays smooth.

    For `polynomial_tps`, whose field is linear in its coefficients: a ← a · min(1, L / max|B̂|);
    for `pixelwise`, B̂ is clipped to ±L.

    Args:
      field: the field of the attack.
      maximum: L > 0, the largest |B̂| allowed.

    Returns:
      `(params, image) -> params`, for `Attack.project`. It raises ValueError, when traced, for
      params of another kind of field.

    Raises:
      ValueError: when `maximum` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax.field import pixelwise
      >>> project = limit_log_field(pixelwise((1, 1)), 0.25)
      >>> project(jnp.asarray([[1.0]]), jnp.ones((1, 1, 1)))
      Array([[0.25]], dtype=float32)
    """
    check_numbers(above=0, maximum=maximum)
    return with_numbers(Partial(_limit, as_pytree(field).log_field), maximum=maximum)


def _limit(log_field_of, params: Params, image: Image, *, maximum: Any) -> Params:
    del image
    if isinstance(params, PolynomialTPSParams):
        largest = jnp.max(jnp.abs(log_field_of(params)))
        scale = maximum / jnp.maximum(largest, maximum)
        return params._replace(coefficients=params.coefficients * scale)
    if isinstance(params, jax.Array):
        return jnp.clip(params, -maximum, maximum)
    raise ValueError(f"limit_log_field knows no params of type {type(params).__name__}")


def clip(
    x: Float[Array, "*shape"],
    low: Float[Array, ...] | float,
    high: Float[Array, ...] | float,
) -> Float[Array, "*shape"]:
    """min(max(x, low), high), with the full gradient on the closed interval [low, high].

    Args:
      x: values; NaN stays NaN.
      low: lower bound, one or one for each value.
      high: upper bound, not below `low`.

    Returns:
      The clipped values.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> jax.grad(clip)(jnp.asarray(1.0), 0.0, 1.0).item()
      1.0
    """
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def check_image(image: Image) -> None:
    """Makes sure, when traced, that an image is one (h, w, c) array of floats.

    Args:
      image: what should be one image.

    Raises:
      ValueError: it is a batch, or holds integers.

    Example:
      >>> check_image(jnp.zeros((8, 8, 1)))
    """
    if jnp.ndim(image) != 3:
        raise ValueError(f"an image is (h, w, c), got shape {jnp.shape(image)}; vmap over batches")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"an image is float in [0, 1], got {image.dtype}; see bfjax.data.to_float")
