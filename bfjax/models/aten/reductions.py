"""Sums, means, extremes and norms over axes, softmax, and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from bfjax.models.aten.arithmetic import absolute
from bfjax.models.aten.promotion import INTEGER, cast, floating

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


def _norm_p(
    x: Array, p: float | None = 2, dim: Axes = None, keepdim: bool = False, **dtype: Any
) -> Array:
    return _norm(x, 2 if p is None else p, dim, keepdim, **dtype)


def _log_sum_exp(x: Array, dim: Axes, keepdim: bool = False) -> Array:
    return jax.nn.logsumexp(floating(x), axis=axes(x, dim), keepdims=keepdim)


def _softmax(function: Callable) -> tuple[Callable, Callable]:
    """Over one axis: with the type that is asked for, and the form that may widen a half."""

    def typed(x: Array, dim: int, dtype: Any = None) -> Array:
        return function(cast(x, dtype), axis=axes(x, dim))

    def widened(x: Array, dim: int, half_to_float: bool) -> Array:
        return typed(x, dim, jnp.float32 if half_to_float else None)

    return typed, widened


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


def _of_some(reduce: Callable) -> Callable:
    """Over several axes; over none of them nothing is put together."""

    def some(x: Array, dim: Axes = None, keepdim: bool = False) -> Array:
        none = dim is not None and not isinstance(dim, int) and not len(dim)
        return x.astype(bool) if none else reduce(x, dim, keepdim)

    return some


_SUM = _reduction(jnp.sum, _summable)
_PROD = _reduction(jnp.prod, _summable)
_MEAN = _reduction(jnp.mean)
_TRUTH = {"any": _reduction(jnp.any), "all": _reduction(jnp.all)}
_EXTREMES = {"max": _reduction(jnp.max), "min": _reduction(jnp.min)}
_SPREADS = {
    "var": lambda variance, mean: variance,
    "std": lambda variance, mean: _root(variance),
    "var_mean": lambda variance, mean: (variance, mean),
    "std_mean": lambda variance, mean: (_root(variance), mean),
}
_SOFTMAX, _SOFTMAX_WIDENED = _softmax(jax.nn.softmax)
_LOG_SOFTMAX, _LOG_SOFTMAX_WIDENED = _softmax(jax.nn.log_softmax)

OPERATORS: dict[str, Callable] = {
    "aten.sum.default": _SUM,
    "aten.sum.dim_IntList": _SUM,
    "aten.prod.default": _PROD,
    "aten.prod.dim_int": _PROD,
    "aten.mean.default": _MEAN,
    "aten.mean.dim": _MEAN,
    **{f"aten.{n}.{form}": f for n, f in _TRUTH.items() for form in ("default", "dim")},
    **{f"aten.{n}.dims": _of_some(f) for n, f in _TRUTH.items()},
    **{f"aten.{name}.default": f for name, f in _EXTREMES.items()},
    **{f"aten.a{name}.default": f for name, f in _EXTREMES.items()},
    **{f"aten.{n}.{form}": f for n, end in _SPREADS.items() for form, f in _spread(end).items()},
    "aten.linalg_vector_norm.default": _norm,
    "aten.norm.Scalar": _norm_p,
    "aten.norm.ScalarOpt_dim": _norm_p,
    "aten.norm.ScalarOpt_dim_dtype": _norm_p,
    "aten.logsumexp.default": _log_sum_exp,
    "aten.softmax.int": _SOFTMAX,
    "aten._softmax.default": _SOFTMAX_WIDENED,
    "aten.log_softmax.int": _LOG_SOFTMAX,
    "aten._log_softmax.default": _LOG_SOFTMAX_WIDENED,
    "aten._safe_softmax.default": safe_softmax,
    "aten.cumsum.default": _running(jnp.cumsum),
    "aten.cumprod.default": _running(jnp.cumprod),
    "aten.logcumsumexp.default": lambda x, dim: lax.cumlogsumexp(x, axis=dim % x.ndim),
    "aten._cdist_forward.default": _distances,
    "aten._pdist_forward.default": _distances_within,
}
