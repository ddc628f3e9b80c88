"""Sums, means, extremes and norms over axes, softmax, and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from bfjax.models.aten.arithmetic import absolute
from bfjax.models.aten.promotion import INTEGER, cast

Axes = int | Sequence[int] | None


def axes(x: Array, dim: Axes) -> tuple[int, ...]:
    """The axes that PyTorch means: all where none is named; a number counts as having one."""
    if x.ndim == 0:
        return ()
    named = [dim] if isinstance(dim, int) else dim
    return tuple(axis % x.ndim for axis in named) if named else tuple(range(x.ndim))


def _reduction(function: Callable, prepare: Callable = lambda x, dtype: cast(x, dtype)) -> Callable:
    """A reduction, in all of its forms: over everything, over one axis, over several."""

    def reduce(x: Array, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
        return function(prepare(x, dtype), axis=axes(x, dim), keepdims=keepdim)

    return reduce


def _summable(x: Array, dtype: Any) -> Array:
    """Sums and products of integers and of booleans are integers of 64 bits."""
    whole = not jnp.issubdtype(x.dtype, jnp.inexact)
    return cast(x, INTEGER if dtype is None and whole else dtype)


def _moments(x: Array, dim: Axes, correction: float, keepdim: bool) -> tuple[Array, Array]:
    """Variance and mean; the variance is NaN where `correction` asks for more values."""
    over = axes(x, dim)
    mean = jnp.mean(x, axis=over, keepdims=True)
    count = math.prod(x.shape[axis] for axis in over)
    total = jnp.sum(_squared_size(x - mean), axis=over, keepdims=keepdim)
    variance = total / jnp.asarray(max(0, count - correction), total.dtype)
    return variance, mean if keepdim else jnp.squeeze(mean, over)


def _squared_size(x: Array) -> Array:
    """|x|², real for complex numbers too."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def _root(x: Array, power: float = 0.5) -> Array:
    """A root whose gradient at zero is zero, as PyTorch's norms and deviations have it."""
    positive = x != 0
    return jnp.where(positive, jnp.where(positive, x, 1) ** power, 0)


def _spread(finish: Callable) -> dict[str, Callable]:
    """The three forms of a variance: of everything, of axes, and with a correction."""

    def of_axes(x: Array, dim: Axes, unbiased: bool = True, keepdim: bool = False) -> Any:
        return finish(*_moments(x, dim, int(unbiased), keepdim))

    def of_all(x: Array, unbiased: bool = True) -> Any:
        return of_axes(x, None, unbiased)

    def corrected(
        x: Array, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False
    ) -> Any:
        return finish(*_moments(x, dim, 1 if correction is None else correction, keepdim))

    return {"default": of_all, "dim": of_axes, "correction": corrected}


def _norm(
    x: Array, ord: float = 2, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Array:
    """(Σ |x|ᵖ)^(1/p), its limits for p = ±∞, and the count of what is not zero for p = 0."""
    over = {"axis": axes(x, dim), "keepdims": keepdim}
    x = cast(x, dtype)
    if ord == 2:
        return _root(jnp.sum(_squared_size(x), **over))
    if ord == 0:
        return jnp.sum((x != 0).astype(x.real.dtype), **over)
    size = absolute(x)
    if math.isinf(ord):
        return (jnp.max if ord > 0 else jnp.min)(size, **over)
    if ord == 1:
        return jnp.sum(size, **over)
    found = _root(jnp.sum(_root(size, ord), **over), 1 / ord)
    return found if ord > 0 else jnp.where(jnp.any(size == 0, **over), 0, found)


def _softmax(function: Callable) -> Callable:
    """Over one axis, a half perhaps in float32."""

    def softmax(x: Array, dim: int, half_to_float: bool) -> Array:
        return function(cast(x, jnp.float32 if half_to_float else None), axis=axes(x, dim))

    return softmax


def safe_softmax(x: Array, dim: int, dtype: Any = None) -> Array:
    """A softmax that is zero where every value is -∞."""
    x = cast(x, dtype)
    nothing = jnp.all(x == -jnp.inf, axis=dim, keepdims=True)
    return jnp.where(nothing, 0, jax.nn.softmax(jnp.where(nothing, 0, x), axis=dim))


def _running(function: Callable) -> Callable:
    def scan(x: Array, dim: int, *, dtype: Any = None) -> Array:
        x = _summable(x, dtype)
        return function(x, axis=dim % x.ndim) if x.ndim else x

    return scan


def _distances(x: Array, y: Array, p: float = 2, compute_mode: int | None = None) -> Array:
    """Between all rows of the one and all of the other."""
    return _norm(x[..., :, None, :] - y[..., None, :, :], p, -1)


def _distances_within(x: Array, p: float = 2) -> Array:
    """Between each row and those after it."""
    first, second = jnp.triu_indices(x.shape[0], 1)
    return _norm(x[first] - x[second], p, -1)


def _any_of_some(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
    """Over several axes; over none of them nothing is put together."""
    none = dim is not None and not isinstance(dim, int) and not len(dim)
    return x.astype(bool) if none else _ANY(x, dim, keepdim)


_PROD = _reduction(jnp.prod, _summable)
_MEAN = _reduction(jnp.mean)
_ANY = _reduction(jnp.any)
_EXTREMES = {"max": _reduction(jnp.max), "min": _reduction(jnp.min)}
_SPREADS = {
    "var": lambda variance, mean: variance,
    "std": lambda variance, mean: _root(variance),
    "var_mean": lambda variance, mean: (variance, mean),
    "std_mean": lambda variance, mean: (_root(variance), mean),
}

OPERATORS: dict[str, Callable] = {
    "aten.sum.dim_IntList": _reduction(jnp.sum, _summable),
    "aten.prod.default": _PROD,
    "aten.prod.dim_int": _PROD,
    "aten.mean.default": _MEAN,
    "aten.mean.dim": _MEAN,
    "aten.any.default": _ANY,
    "aten.any.dim": _ANY,
    "aten.any.dims": _any_of_some,
    **{f"aten.{name}.default": f for name, f in _EXTREMES.items()},
    **{f"aten.a{name}.default": f for name, f in _EXTREMES.items()},
    **{f"aten.{n}.{form}": f for n, end in _SPREADS.items() for form, f in _spread(end).items()},
    "aten.linalg_vector_norm.default": _norm,
    "aten._softmax.default": _softmax(jax.nn.softmax),
    "aten._log_softmax.default": _softmax(jax.nn.log_softmax),
    "aten.cumsum.default": _running(jnp.cumsum),
    "aten.cumprod.default": _running(jnp.cumprod),
    "aten.logcumsumexp.default": lambda x, dim: lax.cumlogsumexp(x, axis=dim % x.ndim),
    "aten._cdist_forward.default": _distances,
    "aten._pdist_forward.default": _distances_within,
}
