"""Parts of a tensor at places that are known beforehand, and writing into such parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Place = tuple[slice | int, ...]


def _selected(x: Array, dim: int, index: int) -> Place:
    return (slice(None),) * (dim % x.ndim) + (index,)


def _sliced(
    x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Place:
    return (slice(None),) * (dim % x.ndim) + (slice(start, end, step),)


def _slice(
    x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    return x[_sliced(x, dim, start, end, step)]


def _slice_scatter(
    x: Array,
    source: Array,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Array:
    return x.at[_sliced(x, dim, start, end, step)].set(source.astype(x.dtype))


def _diagonal(x: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    return jnp.diagonal(x, offset, dim1, dim2)


def _diagonal_scatter(
    x: Array, source: Array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Array:
    places = _diagonal(jnp.arange(x.size).reshape(x.shape), offset, dim1, dim2)
    return x.reshape(-1).at[places].set(source.astype(x.dtype)).reshape(x.shape)


def _as_strided(
    x: Array, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Array:
    """Of a tensor that lies in memory as its shape says, which the reader of graphs checks."""
    places = np.full(tuple(size), storage_offset or 0)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        places += (np.arange(length) * step).reshape((-1,) + (1,) * (len(size) - axis - 1))
    if np.array_equal(places.reshape(-1), np.arange(x.size)):
        return x.reshape(tuple(size))
    return x.reshape(-1)[places]


def _unfold(x: Array, dimension: int, size: int, step: int) -> Array:
    """Windows along an axis, whose values come last."""
    if x.ndim == 0:
        return x.reshape(1)
    dim = dimension % x.ndim
    starts = np.arange(0, x.shape[dim] - size + 1, step)
    windows = jnp.take(x, starts[:, None] + np.arange(size), axis=dim)
    return jnp.moveaxis(windows, dim + 1, -1)


def _im2col(
    x: Array,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Array:
    """(…, c, h, w) to (…, c kh kw, windows): each window as a column, as `torch.nn.Unfold`."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p) for p in padding])
    sides = zip(x.shape[-2:], kernel_size, dilation, stride, strict=True)
    rows, columns = [
        # for each offset in the kernel a slice that holds it for all windows
        [slice(k * d, n - (kernel - 1 - k) * d, s) for k in range(kernel)]
        for n, kernel, d, s in sides
    ]
    parts = jnp.stack([x[..., r, c] for r in rows for c in columns], axis=-3)
    return parts.reshape(*x.shape[:-3], x.shape[-3] * len(rows) * len(columns), -1)


def _col2im(x: Array, output_size: Sequence[int], *window: Sequence[int]) -> Array:
    """The transpose of `im2col`: what windows have in common is summed."""
    channels = x.shape[-2] // (window[0][0] * window[0][1])
    image = jax.ShapeDtypeStruct((*x.shape[:-2], channels, *output_size), x.dtype)
    return jax.linear_transpose(lambda image: _im2col(image, *window), image)(x)[0]


OPERATORS: dict[str, Callable] = {
    "aten.as_strided.default": _as_strided,
    "aten.col2im.default": _col2im,
    "aten.diagonal.default": _diagonal,
    "aten.diagonal_scatter.default": _diagonal_scatter,
    "aten.im2col.default": _im2col,
    "aten.select.int": lambda x, dim, index: x[_selected(x, dim, index)],
    "aten.select_scatter.default": (
        lambda x, source, dim, index: x.at[_selected(x, dim, index)].set(source.astype(x.dtype))
    ),
    "aten.slice.Tensor": _slice,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.unfold.default": _unfold,
}
