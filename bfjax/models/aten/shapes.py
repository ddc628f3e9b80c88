"""Views, permutations, splits and joins: the same values in another shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from bfjax.models.aten.promotion import result_type

Ints = Sequence[int]


def _view(x: Array, size: Ints, stride: Ints | None = None) -> Array:
    return x.reshape(tuple(size))


def _permute(x: Array, dims: Ints) -> Array:
    return jnp.transpose(x, [dim % x.ndim for dim in dims])


def _transpose(x: Array, dim0: int, dim1: int) -> Array:
    return jnp.swapaxes(x, dim0, dim1) if x.ndim else x


def _squeeze(x: Array, dim: int | Ints | None = None) -> Array:
    """Without the axes of length one, or those of them that are named."""
    named = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple({d % x.ndim for d in named if x.ndim and x.shape[d] == 1}))


def _expand(x: Array, size: Ints, *, implicit: bool = False) -> Array:
    """-1 stands for the length that the axis has."""
    old = (1,) * (len(size) - x.ndim) + x.shape
    shape = [has if wanted == -1 else wanted for has, wanted in zip(old, size, strict=True)]
    return jnp.broadcast_to(x.reshape(old), shape)


def _repeat_interleave(
    x: Array, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> Array:
    return jnp.repeat(x, repeats, axis=dim)


def _flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start_dim % x.ndim, end_dim % x.ndim + 1
    return x.reshape(*x.shape[:start], math.prod(x.shape[start:end]), *x.shape[end:])


def _unflatten(x: Array, dim: int, sizes: Ints) -> Array:
    dim %= x.ndim
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def _roll(x: Array, shifts: Ints, dims: Ints = ()) -> Array:
    return jnp.roll(x, tuple(shifts), tuple(dims)) if dims else jnp.roll(x, shifts[0])


def _at(x: Array, places: Ints, dim: int) -> tuple[Array, ...]:
    return tuple(jnp.split(x, places, axis=dim))


def _split(x: Array, split_size: int | Ints, dim: int = 0) -> tuple[Array, ...]:
    """In parts of one length, the last of which may be shorter, or of these lengths."""
    if isinstance(split_size, int):
        return (
            _at(x, list(range(split_size, x.shape[dim], split_size)), dim) if split_size else (x,)
        )
    return _at(x, [int(end) for end in np.cumsum(split_size)[:-1]], dim)


def _chunk(x: Array, chunks: int, dim: int = 0) -> tuple[Array, ...]:
    return _split(x, max(1, -(-x.shape[dim] // chunks)), dim)


def _tensor_split(x: Array, sections: int | Ints, dim: int = 0) -> tuple[Array, ...]:
    if isinstance(sections, int):
        return tuple(jnp.array_split(x, sections, axis=dim))
    return _at(x, sections, dim)


def _unbind(x: Array, dim: int = 0) -> tuple[Array, ...]:
    return tuple(jnp.moveaxis(x, dim, 0))


def _together(tensors: Sequence[Array]) -> list[Array]:
    """In one type; PyTorch ignores an empty list (0,) among tensors of more axes."""
    rank = max(x.ndim for x in tensors)
    dtype = result_type(*tensors)
    return [x.astype(dtype) for x in tensors if x.shape != (0,) or rank == 1]


def _cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    return jnp.concatenate(_together(tensors), axis=dim)


def _stack(tensors: Sequence[Array], dim: int = 0) -> Array:
    return jnp.stack(_together(tensors), axis=dim)


def _pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """(…, c r², h, w) to (…, c, h r, w r)."""
    r, (*before, c, h, w) = upscale_factor, x.shape
    x = x.reshape(*before, c // r**2, r, r, h, w)
    n = len(before)
    x = x.transpose(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*before, c // r**2, h * r, w * r)


def _pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """(…, c, h r, w r) to (…, c r², h, w)."""
    r, (*before, c, h, w) = downscale_factor, x.shape
    x = x.reshape(*before, c, h // r, r, w // r, r)
    n = len(before)
    x = x.transpose(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*before, c * r**2, h // r, w // r)


def _channel_shuffle(x: Array, groups: int) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    return jnp.swapaxes(grouped, 1, 2).reshape(x.shape)


def _rot90(x: Array, k: int = 1, dims: Ints = (0, 1)) -> Array:
    return jnp.rot90(x, k, (dims[0], dims[1]))


_PLAIN: dict[str, Callable] = {
    "_reshape_alias.default": _view,
    "_unsafe_view.default": _view,
    "broadcast_to.default": _expand,
    "cat.default": _cat,
    "channel_shuffle.default": _channel_shuffle,
    "chunk.default": _chunk,
    "concat.default": _cat,
    "expand.default": _expand,
    "expand_as.default": lambda x, other: jnp.broadcast_to(_expand(x, other.shape), other.shape),
    "flatten.using_ints": _flatten,
    "flip.default": lambda x, dims: jnp.flip(x, tuple(dims)),
    "hstack.default": lambda tensors: jnp.hstack(_together(tensors)),
    "mT.default": lambda x: jnp.swapaxes(x, -1, -2),
    "movedim.int": lambda x, source, destination: jnp.moveaxis(x, source, destination),
    "movedim.intlist": lambda x, source, destination: jnp.moveaxis(x, source, destination),
    "native_channel_shuffle.default": _channel_shuffle,
    "numpy_T.default": jnp.transpose,
    "permute.default": _permute,
    "pixel_shuffle.default": _pixel_shuffle,
    "pixel_unshuffle.default": _pixel_unshuffle,
    "repeat.default": lambda x, repeats: jnp.tile(x, tuple(repeats)),
    "repeat_interleave.self_int": _repeat_interleave,
    "reshape.default": _view,
    "roll.default": _roll,
    "rot90.default": _rot90,
    "split.Tensor": _split,
    "split.sizes": _split,
    "split_with_sizes.default": _split,
    "squeeze.default": _squeeze,
    "squeeze.dim": _squeeze,
    "squeeze.dims": _squeeze,
    "stack.default": _stack,
    "swapaxes.default": _transpose,
    "t.default": jnp.transpose,
    "tensor_split.indices": _tensor_split,
    "tensor_split.sections": _tensor_split,
    "tile.default": lambda x, dims: jnp.tile(x, tuple(dims)),
    "transpose.int": _transpose,
    "unbind.int": _unbind,
    "unflatten.int": _unflatten,
    "unsqueeze.default": lambda x, dim: jnp.expand_dims(x, dim),
    "view.default": _view,
    "view_as.default": lambda x, other: x.reshape(other.shape),
    "vstack.default": lambda tensors: jnp.vstack(_together(tensors)),
}
OPERATORS: dict[str, Callable] = {f"aten.{name}": function for name, function in _PLAIN.items()}
