"""New tensors: constants, ranges and triangles."""

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


def _filled(value: Number) -> tuple[Callable, Callable, Callable]:
    """Tensors of one value: of a size, like another, and of a size in the type of another."""

    def of_size(size: Sequence[int], *, dtype: Any = None) -> Array:
        return _full(size, value, dtype=FLOATING if dtype is None else dtype)

    def like(x: Array, *, dtype: Any = None) -> Array:
        return _full_like(x, value, dtype=dtype)

    def new(x: Array, size: Sequence[int], *, dtype: Any = None) -> Array:
        return _new_full(x, size, value, dtype=dtype)

    return of_size, like, new


def _full_like(x: Array, fill_value: Number, *, dtype: Any = None) -> Array:
    return _new_full(x, x.shape, fill_value, dtype=dtype)


def _new_full(x: Array, size: Sequence[int], fill_value: Number, *, dtype: Any = None) -> Array:
    return _full(size, fill_value, dtype=x.dtype if dtype is None else dtype)


def _scalar_tensor(value: Number, *, dtype: Any = None) -> Array:
    return _full((), value, dtype=FLOATING if dtype is None else dtype)


def _range(start: float, end: float, step: float = 1, *, dtype: Any = None) -> Array:
    """Computed in double precision, as PyTorch does, before it is cast."""
    if dtype is None:
        dtype = FLOATING if any(isinstance(v, float) for v in (start, end, step)) else INTEGER
    count = max(0, math.ceil((end - start) / step))
    return jnp.asarray((start + step * np.arange(count)).astype(canonical(dtype)))


def _linspace(start: float, end: float, steps: int, *, dtype: Any = None) -> Array:
    dtype = canonical(FLOATING if dtype is None else dtype)
    return jnp.asarray(np.linspace(start, end, steps).astype(dtype))


def _eye(n: int, m: int | None = None, *, dtype: Any = None) -> Array:
    return jnp.eye(n, m, dtype=canonical(FLOATING if dtype is None else dtype))


def _triangle_places(indices: Callable) -> Callable:
    def places(row: int, col: int, offset: int = 0, *, dtype: Any = INTEGER) -> Array:
        return jnp.asarray(np.stack(indices(row, offset, col)).astype(canonical(dtype)))

    return places


_ZEROS, _ZEROS_LIKE, _NEW_ZEROS = _filled(0)
_ONES, _ONES_LIKE, _NEW_ONES = _filled(1)

OPERATORS: dict[str, Callable] = {
    "aten.arange.default": lambda end, *, dtype=None: _range(0, end, dtype=dtype),
    "aten.arange.start": _range,
    "aten.arange.start_step": _range,
    # what is not defined is zero here
    "aten.empty.memory_format": _ZEROS,
    "aten.empty_like.default": _ZEROS_LIKE,
    "aten.empty_permuted.default": lambda size, layout, *, dtype=None: _ZEROS(size, dtype=dtype),
    "aten.empty_strided.default": lambda size, stride, *, dtype=None: _ZEROS(size, dtype=dtype),
    "aten.new_empty.default": _NEW_ZEROS,
    "aten.eye.default": _eye,
    "aten.eye.m": _eye,
    "aten.full.default": _full,
    "aten.full_like.default": _full_like,
    "aten.linspace.default": _linspace,
    "aten.new_full.default": _new_full,
    "aten.new_ones.default": _NEW_ONES,
    "aten.new_zeros.default": _NEW_ZEROS,
    "aten.ones.default": _ONES,
    "aten.ones_like.default": _ONES_LIKE,
    "aten.scalar_tensor.default": _scalar_tensor,
    "aten.tril.default": lambda x, diagonal=0: jnp.tril(x, diagonal),
    "aten.tril_indices.default": _triangle_places(np.tril_indices),
    "aten.triu.default": lambda x, diagonal=0: jnp.triu(x, diagonal),
    "aten.triu_indices.default": _triangle_places(np.triu_indices),
    "aten.zeros.default": _ZEROS,
    "aten.zeros_like.default": _ZEROS_LIKE,
}
