"""Reading and writing at places that a tensor names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bfjax.models.aten.promotion import with_rank

Indices = Sequence[Array | None]


def _places(indices: Indices) -> tuple[Array | slice, ...]:
    for index in indices:
        if index is not None and index.dtype in (np.bool_, np.uint8):
            raise ValueError(
                f"a mask of shape {index.shape} is used as an index: how many values it takes "
                "depends on the data. torch.where takes them without that"
            )
    rank = max((index.ndim for index in indices if index is not None), default=0)
    return tuple(slice(None) if i is None else with_rank(i, rank) for i in indices)


def _index(x: Array, indices: Indices) -> Array:
    return x[_places(indices)]


def _index_put(x: Array, indices: Indices, values: Array, accumulate: bool = False) -> Array:
    """Values written or added at places; one value, where a mask says so."""
    mask = indices[0] if len(indices) == 1 else None
    if mask is not None and mask.dtype == np.bool_ and values.size == 1:
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        value = values.reshape(()).astype(x.dtype)
        return jnp.where(mask, x + value if accumulate else value, x)
    at = x.at[_places(indices)]
    target = np.broadcast_shapes(values.shape, x[_places(indices)].shape)
    values = jnp.broadcast_to(with_rank(values, len(target)), target).astype(x.dtype)
    return at.add(values) if accumulate else at.set(values)


def _grid(index: Array, dim: int) -> tuple[Array, ...]:
    """Places of `gather` and `scatter`: on one axis those named, on the others one's own."""
    own = list(jnp.indices(index.shape, sparse=True))
    own[dim % index.ndim] = index
    return tuple(own)


def _gather(x: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    return x[_grid(index, dim)] if x.ndim and index.ndim else x.reshape(-1)[index]


_WRITES = {"sum": "add", "prod": "multiply", "amax": "max", "amin": "min", "mean": "add"}


def _factors(x: Array, dim: int, index: Array, source: Array) -> Array:
    """What each place is multiplied by; JAX has no gradient of a product that is scattered."""
    index, source = (jnp.moveaxis(value, dim, -1)[..., None] for value in (index, source))
    places = jnp.arange(x.shape[dim]).reshape((1,) * (index.ndim - 1) + (-1,))
    return jnp.moveaxis(jnp.prod(jnp.where(index == places, source, 1), axis=-2), -1, dim)


def _scatter(x: Array, dim: int, index: Array, source: Any, *, reduce: str = "set") -> Array:
    if isinstance(source, Array):
        source = source[tuple(map(slice, index.shape))]
    source = jnp.asarray(source, x.dtype)
    if reduce == "multiply":
        factors = _factors(x, dim, index, jnp.broadcast_to(source, index.shape))
        part = tuple(map(slice, factors.shape))
        return x.at[part].set(x[part] * factors)
    return getattr(x.at[_grid(index, dim)], reduce)(source)


def _scatter_reduce(
    x: Array, dim: int, index: Array, source: Array, reduce: str, *, include_self: bool = True
) -> Array:
    """Sums, products, means or extremes of what goes to one place, and of what was there."""
    counts = _scatter(jnp.zeros(x.shape, x.dtype), dim, index, 1, reduce="add")
    if not include_self:
        low, high = (
            (-jnp.inf, jnp.inf)
            if jnp.issubdtype(x.dtype, jnp.inexact)
            else (jnp.iinfo(x.dtype).min, jnp.iinfo(x.dtype).max)
        )
        neutral = {"sum": 0, "mean": 0, "prod": 1, "amax": low, "amin": high}[reduce]
        x = jnp.where(counts > 0, jnp.asarray(neutral, x.dtype), x)
    found = _scatter(x, dim, index, source, reduce=_WRITES[reduce])
    if reduce != "mean":
        return found
    counts = jnp.maximum(counts + int(include_self), 1)
    whole = not jnp.issubdtype(x.dtype, jnp.inexact)
    return jnp.floor_divide(found, counts) if whole else found / counts


def _index_select(x: Array, dim: int, index: Array) -> Array:
    return x[(slice(None),) * (dim % x.ndim) + (index.reshape(-1),)] if x.ndim else x


def _embedding(
    weight: Array,
    indices: Array,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Array:
    rows = weight[indices]
    if padding_idx < 0:
        return rows
    return jnp.where((indices == padding_idx)[..., None], lax.stop_gradient(rows), rows)


def _masked_scatter(x: Array, mask: Array, source: Array) -> Array:
    """The values of the source, in their order, where the mask is true."""
    shape = np.broadcast_shapes(x.shape, mask.shape)
    x, mask = (jnp.broadcast_to(with_rank(value, len(shape)), shape) for value in (x, mask))
    place = jnp.cumsum(mask.reshape(-1)) - 1
    taken = source.reshape(-1)[jnp.clip(place, 0, source.size - 1)].reshape(shape)
    return jnp.where(mask, taken, x)


def _search(
    sequence: Array,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Array | None = None,
) -> Array:
    """Where values would go into sorted rows, or all of them into one."""
    sequence = sequence if sorter is None else jnp.take_along_axis(sequence, sorter, axis=-1)
    where = functools.partial(
        jnp.searchsorted, side="right" if right or side == "right" else "left"
    )
    if sequence.ndim > 1:
        where = jnp.vectorize(where, signature="(n),(m)->(m)")
    return where(sequence, values)


_ADD = functools.partial(_scatter, reduce="add")

OPERATORS: dict[str, Callable] = {
    "aten.bucketize.Tensor": lambda x, boundaries, **options: _search(boundaries, x, **options),
    "aten.embedding.default": _embedding,
    "aten.gather.default": _gather,
    "aten.index.Tensor": _index,
    "aten.index_put.default": _index_put,
    "aten.index_select.default": _index_select,
    "aten.masked_scatter.default": _masked_scatter,
    "aten.scatter.reduce": _scatter,
    "aten.scatter.src": _scatter,
    "aten.scatter.value": _scatter,
    "aten.scatter.value_reduce": _scatter,
    "aten.scatter_add.default": _ADD,
    "aten.scatter_reduce.two": _scatter_reduce,
    "aten.searchsorted.Scalar": _search,
    "aten.searchsorted.Tensor": _search,
}
