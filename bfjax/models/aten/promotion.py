"""PyTorch's type promotion and broadcasting, where they are not JAX's.

Tensors with dimensions decide the type; tensors without, and after them Python's numbers, count
only where they are of a higher kind (boolean < integer < floating < complex):
https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc
"""

from __future__ import annotations

import functools
from numbers import Number
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

INTEGER = np.dtype("int64")  # of an integer in Python; JAX makes int32 of it unless x64 is on
FLOATING = np.dtype("float32")  # torch.get_default_dtype()


def canonical(dtype: Any) -> np.dtype:
    """The type that JAX has for one of PyTorch: 32 bits for 64, unless x64 is on."""
    return jax.dtypes.canonicalize_dtype(dtype)


def _kind(dtype: Any) -> int:
    kinds = (np.bool_, np.integer, np.floating, np.complexfloating)
    return next(n for n, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind))


def _of_number(value: Number) -> np.dtype:
    if isinstance(value, bool):
        return np.dtype(bool)
    if isinstance(value, int):
        return canonical(INTEGER)
    return np.dtype("complex64") if isinstance(value, complex) else FLOATING


def result_type(*values: Any) -> np.dtype:
    """The common type of tensors and numbers, as `torch.result_type` has it."""
    numbers = [_of_number(v) for v in values if isinstance(v, Number)]
    tensors = [v for v in values if not isinstance(v, Number)]
    ranked = [[v.dtype for v in tensors if v.ndim], [v.dtype for v in tensors if not v.ndim]]
    found = None
    for types in [types for types in (*ranked, numbers) if types]:
        common = functools.reduce(jnp.promote_types, types)
        if found is None or _kind(common) > _kind(found):
            found = common if found is None else jnp.promote_types(found, common)
    if found is None:
        raise ValueError("a common type needs at least one value")
    return np.dtype(found)


def floating(x: Array) -> Array:
    """The tensor itself, or as float32 where it is boolean or integer."""
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(FLOATING)


def cast(x: Array, dtype: Any) -> Array:
    """The tensor in another type of PyTorch; `None` is its own."""
    return x if dtype is None else x.astype(canonical(dtype))


def align(*values: Any, inexact: bool = False) -> list[Any]:
    """Tensors in their common type and rank, ready to be broadcast; numbers stay as they are."""
    dtype = result_type(*values)
    if inexact and not jnp.issubdtype(dtype, jnp.inexact):
        dtype = FLOATING
    rank = max(np.ndim(value) for value in values)
    return [v if isinstance(v, Number) else with_rank(v.astype(dtype), rank) for v in values]


def with_rank(x: Array, rank: int) -> Array:
    """The tensor with axes of length one before its own; one without any stays so."""
    return x if x.ndim in (0, rank) else x.reshape((1,) * (rank - x.ndim) + x.shape)
