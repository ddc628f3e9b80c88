"""Fourier transforms, and complex numbers as pairs of real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

Axes = Sequence[int]


def _scaled(transform: Array, count: int, normalization: int) -> Array:
    """Divided by nothing, by the root of the count, or by the count."""
    return transform if normalization == 0 else transform / count ** (normalization / 2)


def _count(x: Array, dim: Axes) -> int:
    return math.prod(x.shape[axis] for axis in dim)


def _of_real(x: Array, dim: Axes, normalization: int, onesided: bool) -> Array:
    transform = jnp.fft.rfftn if onesided else jnp.fft.fftn
    return _scaled(transform(x, axes=tuple(dim)), _count(x, dim), normalization)


def _to_real(x: Array, dim: Axes, normalization: int, last_dim_size: int) -> Array:
    shape = [*(x.shape[axis] for axis in dim[:-1]), last_dim_size]
    real = jnp.fft.irfftn(x, shape, tuple(dim), norm="forward")  # which does not divide
    return _scaled(real, math.prod(shape), normalization)


def _of_complex(x: Array, dim: Axes, normalization: int, forward: bool) -> Array:
    axes = tuple(dim)
    found = jnp.fft.fftn(x, axes=axes) if forward else jnp.fft.ifftn(x, axes=axes, norm="forward")
    return _scaled(found, _count(x, dim), normalization)


OPERATORS: dict[str, Callable] = {
    "aten._conj.default": jnp.conj,
    "aten._fft_c2c.default": _of_complex,
    "aten._fft_c2r.default": _to_real,
    "aten._fft_r2c.default": _of_real,
    "aten.complex.default": lax.complex,
    "aten.view_as_complex.default": lambda x: lax.complex(x[..., 0], x[..., 1]),
    "aten.view_as_real.default": lambda x: jnp.stack([x.real, x.imag], axis=-1),
}
