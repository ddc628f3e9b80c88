"""New tensors: constants, ranges and the places of triangles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from bfjax.models.aten.promotion import FLOATING, INTEGER, canonical, result_type

Number = bool | int | float


def _number(value: Number, dtype: Any) -> np.ndarray:
    """A constant; an integer that JAX has no room for becomes the nearest that it has."""
    dtype = canonical(dtype)
    if isinstance(value, int) and jnp.issubdtype(dtype, jnp.integer):
        value = min(max(value, jnp.iinfo(dtype).min), jnp.iinfo(dtype).max)
    return np.asarray(value, dtype)


def _full(size: Sequence[int], fill_value: Number, *, dtype: Any = None) -> Array:
    dtype = result_type(fill_value) if dtype is None else dtype
    return jnp.full(tuple(size), _number(fill_value, dtype))


def _full_like(x: Array, fill_value: Number, *, dtype: Any = None) -> Array:
    return _full(x.shape, fill_value, dtype=x.dtype if dtype is None else dtype)


def _zeros(size: Sequence[int], *, dtype: Any = None) -> Array:
    return _full(size, 0, dtype=FLOATING if dtype is None else dtype)


def _scalar_tensor(value: Number, *, dtype: Any = None) -> Array:
    return _full((), value, dtype=FLOATING if dtype is None else dtype)


def _range(start: float, end: float, step: float = 1, *, dtype: Any = None) -> Array:
    """Computed in double precision, as PyTorch does, before it is cast."""
    if dtype is None:
        dtype = FLOATING if any(isinstance(v, float) for v in (start, end, step)) else INTEGER
    count = max(0, math.ceil((end - start) / step))
    return jnp.asarray((start + step * np.arange(count)).astype(canonical(dtype)))


def _triangle_places(indices: Callable) -> Callable:
    def places(row: int, col: int, offset: int = 0, *, dtype: Any = INTEGER) -> Array:
        return jnp.asarray(np.stack(indices(row, offset, col)).astype(canonical(dtype)))

    return places


OPERATORS: dict[str, Callable] = {
    "aten.arange.start_step": _range,
    # what is not defined is zero here
    "aten.empty.memory_format": _zeros,
    "aten.empty_permuted.default": lambda size, layout, *, dtype=None: _zeros(size, dtype=dtype),
    "aten.empty_strided.default": lambda size, stride, *, dtype=None: _zeros(size, dtype=dtype),
    "aten.full.default": _full,
    "aten.full_like.default": _full_like,
    "aten.scalar_tensor.default": _scalar_tensor,
    "aten.tril_indices.default": _triangle_places(np.tril_indices),
    "aten.triu_indices.default": _triangle_places(np.triu_indices),
}
