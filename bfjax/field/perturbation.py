"""Perturbations made of fields: X_a = X · exp(B̂), or X − γ B̂, clipped (Eq. 1 and 2).

Convention:
    Clipping keeps the gradient on the closed interval: it passes in full at exactly 0, at exactly
    1 and at exactly X ± max_change, and is zero outside (PyTorch's convention; `jnp.clip` passes
    half of it there). X-rays have black borders, which lie exactly on the bound.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.field.clipping import clip
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import Field, Image, LogField, Params, Perturbation, PRNGKey, as_key, as_pytree

Encoding = Literal["linear", "log"]
"""What a grey value is of the exposure: proportional to it, or falling with its logarithm."""
Saturation = Literal["clip", "tanh"]
"""How B̂ meets a bound at each pixel."""

# exp(±80) fits float32 with room for its gradient, exp(±11) fits float16; 16-bit images saturate to
# black or white long before. Without a bound exp overflows, and a black pixel makes 0 · inf = NaN.
_FINITE = 80.0


def bias_field(
    field: Field,
    *,
    max_change: Number | None = None,
    max_log_field: Number | None = None,
    saturation: Saturation = "clip",
    offset: Number | None = None,
    start_noise: Number | None = None,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
) -> Perturbation:
    """Applies a bias field: X_a = clip(X · exp(B̂)) (Eq. 1, 2), or clip(X − γ B̂) of a log encoding.

    The paper multiplies the grey values. The X-rays that are looked at are encoded in the logarithm
    of the exposure, more of it darker: there a field is a smooth difference, and black changes too.

    The logarithm of the image is never taken: where it is multiplied, black stays black. At B̂ = 0
    the image comes back exactly. Grey and RGB images take the same (h, w) field on every channel.

    Args:
      field: the log field B̂, for instance `polynomial_tps`.
      max_change: ε, in units of the image's range [0, 1]: X_a is also clipped to X ± ε. `None`
        leaves only the clip to [0, 1].
      max_log_field: h, a bound on |B̂| held at every pixel. It bends the field: where many pixels
        reach it they make a plateau with an edge. `bfjax.field.limit_log_field` scales instead and
        keeps the field as smooth as it is. `None` means 80, in float16 11, which keeps exp finite.
      saturation: `"clip"` cuts B̂ at ±h, without a gradient beyond; `"tanh"` is B̂ ← h tanh(B̂ / h),
        which has one everywhere.
      offset: o in log(X + o) + B̂, the other reading of Eq. 2: X_a = (X + o) · exp(B̂) − o. With
        o > 0 black pixels change too. `None` is Eq. 2 as it stands.
      start_noise: half-width of the uniform noise added to every parameter at the start; it then
        needs a key. `None` starts at the field's identity.
      encoding: of the grey values, `"linear"` in the exposure or `"log"`.
      gamma: γ > 0 of `"log"`, in grey levels (of [0, 1]) for each factor e of the exposure. The
        default is of 1.5 decades over [0, 1], 1 / (1.5 ln 10).

    Returns:
      A `Perturbation`. `apply(params, image)` raises ValueError, when traced, for an image that is
      not (h, w, c) of floats or whose size is not the field's.

    Raises:
      ValueError: for what is no field, a bound or γ that is not positive, a negative offset or
        noise, an unknown encoding or saturation, `"tanh"` without a bound, or an offset with
        `"log"`, which has no product.

    Example:
      >>> import jax.numpy as jnp
      >>> from bfjax.field import pixelwise
      >>> perturbation = bias_field(pixelwise((1, 1)), max_change=0.1)
      >>> perturbation.apply(jnp.asarray([[1.0]]), jnp.asarray([[[0.5]]]))
      Array([[[0.6]]], dtype=float32)

    Reference: Tian et al., ICME 2021, Eq. 1 and 2.
    """
    check_numbers(above=0, optional=True, max_change=max_change, max_log_field=max_log_field)
    check_numbers(at_least=0, optional=True, offset=offset, start_noise=start_noise)
    check_numbers(above=0, below=math.inf, gamma=gamma)
    for name, value, known in (
        ("encoding", encoding, Encoding),
        ("saturation", saturation, Saturation),
    ):
        if value not in get_args(known):
            raise ValueError(f"{name} must be one of {get_args(known)}, got {value!r}")
    if saturation == "tanh" and max_log_field is None:
        raise ValueError("saturation='tanh' needs max_log_field, the bound that it saturates at")
    if encoding == "log" and offset is not None:
        raise ValueError(f"a log encoding has no product to offset, got {offset=}")
    field = as_pytree(check_field(field))
    bound = Partial(_SATURATIONS[saturation])
    bounded = with_numbers(Partial(_bounded, bound, field.log_field), max_log_field=max_log_field)
    if encoding == "log":
        product = with_numbers(Partial(_difference), gamma=gamma)
    else:
        product = with_numbers(Partial(_product), offset=offset)
    return Perturbation(
        init=with_numbers(Partial(_start, field.init), start_noise=start_noise),
        apply=with_numbers(Partial(_apply, product, bounded), max_change=max_change),
        log_field=bounded,
        unclipped=Partial(_unclipped, product, field.log_field),
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


def _bounded(bound, log_field_of, params: Params, *, max_log_field: Any) -> LogField:
    log_field = log_field_of(params)
    if max_log_field is None:
        return _finite(log_field)
    return bound(log_field, jnp.minimum(max_log_field, _largest(log_field)))


def _finite(log_field: LogField) -> LogField:
    return clip(log_field, -_largest(log_field), _largest(log_field))


def _largest(log_field: LogField) -> float:
    return min(_FINITE, math.floor(math.log(float(jnp.finfo(log_field.dtype).max))))


def _clipped(log_field: LogField, bound: Any) -> LogField:
    return clip(log_field, -bound, bound)


def _saturated(log_field: LogField, bound: Any) -> LogField:
    return bound * jnp.tanh(log_field / bound)


_SATURATIONS = {"clip": _clipped, "tanh": _saturated}


def _product(image: Image, log_field: LogField, *, offset: Any) -> Image:
    log_field = log_field[..., None]
    product = image * jnp.exp(log_field)
    return product if offset is None else product + offset * jnp.expm1(log_field)


def _difference(image: Image, log_field: LogField, *, gamma: Any) -> Image:
    return image - gamma * log_field[..., None]


def _unclipped(product, log_field_of, params: Params, image: Image) -> Image:
    log_field = _finite(log_field_of(params))
    _check_size(log_field, image)
    return product(image, log_field)


def _check_size(log_field: LogField, image: Image) -> None:
    check_image(image)
    if log_field.shape != image.shape[:2]:
        raise ValueError(f"the field is {log_field.shape}, the image {image.shape[:2]}")


def _apply(product, bounded, params: Params, image: Image, *, max_change: Any) -> Image:
    log_field = bounded(params)
    _check_size(log_field, image)
    perturbed = product(image, log_field)
    low, high = 0.0, 1.0
    if max_change is not None:
        low = jnp.maximum(low, image - max_change)
        high = jnp.minimum(high, image + max_change)
    return clip(perturbed, low, high).astype(image.dtype)


def check_field(field: Any) -> Field:
    """Makes sure that a field is one, and not the function that makes it.

    Args:
      field: what should be a `bfjax.Field`.

    Returns:
      The same.

    Raises:
      ValueError: it is none.

    Example:
      >>> check_field(bias_field)
      Traceback (most recent call last):
      ...
      ValueError: a field is a bfjax.Field, such as legendre((h, w), degree=4), got bias_field
    """
    if not isinstance(field, Field):
        name = getattr(field, "__name__", None) or repr(field)
        raise ValueError(
            f"a field is a bfjax.Field, such as legendre((h, w), degree=4), got {name}"
        )
    return field


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
