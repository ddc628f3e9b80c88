"""Views, permutations, splits and joins: the same values in another shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from bfjax.models.aten.promotion import result_type

Ints = Sequence[int]


def _view(x: Array, size: Ints) -> Array:
    return x.reshape(tuple(size))


def _permute(x: Array, dims: Ints) -> Array:
    return jnp.transpose(x, [dim % x.ndim for dim in dims])


def _squeeze(x: Array, dim: int | Ints) -> Array:
    """Without those of the named axes that have length one."""
    named = [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple({d % x.ndim for d in named if x.ndim and x.shape[d] == 1}))


def _expand(x: Array, size: Ints, *, implicit: bool = False) -> Array:
    """-1 stands for the length that the axis has."""
    old = (1,) * (len(size) - x.ndim) + x.shape
    shape = [has if wanted == -1 else wanted for has, wanted in zip(old, size, strict=True)]
    return jnp.broadcast_to(x.reshape(old), shape)


def _roll(x: Array, shifts: Ints, dims: Ints = ()) -> Array:
    return jnp.roll(x, tuple(shifts), tuple(dims)) if dims else jnp.roll(x, shifts[0])


def _split(x: Array, split_sizes: Ints, dim: int = 0) -> tuple[Array, ...]:
    """In parts of these lengths."""
    return tuple(jnp.split(x, [int(end) for end in np.cumsum(split_sizes)[:-1]], axis=dim))


def _together(tensors: Sequence[Array]) -> list[Array]:
    """In one type; PyTorch ignores an empty list (0,) among tensors of more axes."""
    rank = max(x.ndim for x in tensors)
    dtype = result_type(*tensors)
    return [x.astype(dtype) for x in tensors if x.shape != (0,) or rank == 1]


def _cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    return jnp.concatenate(_together(tensors), axis=dim)


def _pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """(…, c r², h, w) to (…, c, h r, w r)."""
    r, (*before, c, h, w) = upscale_factor, x.shape
    x = x.reshape(*before, c // r**2, r, r, h, w)
    n = len(before)
    x = x.transpose(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*before, c // r**2, h * r, w * r)


def _channel_shuffle(x: Array, groups: int) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    return jnp.swapaxes(grouped, 1, 2).reshape(x.shape)


_PLAIN: dict[str, Callable] = {
    "cat.default": _cat,
    "expand.default": _expand,
    "flip.default": lambda x, dims: jnp.flip(x, tuple(dims)),
    "native_channel_shuffle.default": _channel_shuffle,
    "permute.default": _permute,
    "pixel_shuffle.default": _pixel_shuffle,
    "repeat.default": lambda x, repeats: jnp.tile(x, tuple(repeats)),
    "roll.default": _roll,
    "split_with_sizes.default": _split,
    "squeeze.dim": _squeeze,
    "squeeze.dims": _squeeze,
    "unsqueeze.default": lambda x, dim: jnp.expand_dims(x, dim),
    "view.default": _view,
}
OPERATORS: dict[str, Callable] = {f"aten.{name}": function for name, function in _PLAIN.items()}
