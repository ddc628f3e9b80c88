"""Where values lie in order: extremes with their places, sorting, and the largest few."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from bfjax.models.aten.promotion import INTEGER, canonical


def _order(x: Array, dim: int, descending: bool) -> Array:
    """Places in order along an axis; equal values keep theirs, and NaN is above all numbers."""
    return jnp.argsort(x, axis=dim, stable=True, descending=descending)


def _taken(x: Array, places: Array, dim: int) -> tuple[Array, Array]:
    """Values at places: only these get a gradient."""
    return jnp.take_along_axis(x, places, axis=dim), places.astype(canonical(INTEGER))


def _of_a_number(operator: Callable) -> Callable:
    """PyTorch lets a tensor without axes have one of length one."""

    @functools.wraps(operator)
    def either(x: Array, *args: object, **kwargs: object) -> tuple[Array, Array]:
        if x.ndim:
            return operator(x, *args, **kwargs)
        values, places = operator(x[None], *args, **kwargs)
        return values.reshape(()), places.reshape(())

    return either


@_of_a_number
def _sort(x: Array, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    return _taken(x, _order(x, dim, descending), dim)


def _sort_stable(
    x: Array, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Array, Array]:
    return _sort(x, dim, descending)


@_of_a_number
def _top(
    x: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Array, Array]:
    places = jnp.take(_order(x, dim, largest), jnp.arange(k), axis=dim)
    return _taken(x, places, dim)


@_of_a_number
def _kth(x: Array, k: int | Array, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """The k-th smallest value, counted from one."""
    order = _order(x, dim, descending=False)
    if isinstance(k, int):
        k = jnp.full([1] * x.ndim, k)
    shape = list(x.shape)
    shape[dim] = 1
    found = _taken(x, jnp.take_along_axis(order, jnp.broadcast_to(k - 1, shape), axis=dim), dim)
    return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))


@_of_a_number
def _median(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The lower of two in the middle; the first NaN, which come last, where there is one."""
    count = x.shape[dim]
    numbers = jnp.sum(~jnp.isnan(x), axis=dim, keepdims=True)
    return _kth(x, jnp.where(numbers < count, numbers + 1, (count + 1) // 2), dim, keepdim)


def _median_of_all(x: Array) -> Array:
    """As `_median`; its gradient is shared by all values that are equal to it."""
    flat = x.reshape(-1)
    found = _median(flat, 0)[0]
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return found
    found = lax.stop_gradient(found)
    equal = flat == found
    share = jnp.where(equal, flat - lax.stop_gradient(flat), 0) / jnp.maximum(equal.sum(), 1)
    return found + share.sum().astype(x.dtype)  # 0, but for its slope


def _running(extreme: Callable) -> Callable:
    """The extreme so far, and where it was met last."""

    @_of_a_number
    def scan(x: Array, dim: int) -> tuple[Array, Array]:
        dim %= x.ndim
        own = jnp.arange(x.shape[dim]).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
        unknown = jnp.isnan(x)
        known = lax.cummax(unknown.astype(jnp.int32), axis=dim) == 0  # no NaN so far
        met = jnp.where(known & (x == extreme(x, axis=dim)) | unknown, own, 0)
        return _taken(x, lax.cummax(met, axis=dim), dim)

    return scan


def _extreme(place: Callable) -> tuple[Callable, Callable]:
    """An extreme along an axis with its place; and the place alone, of everything too."""

    @_of_a_number
    def extreme(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
        places = place(x, axis=dim, keepdims=True)
        found = _taken(x, places, dim)
        return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))

    def index(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
        if dim is not None:
            return extreme(x, dim, keepdim)[1]
        found = place(x.reshape(-1)).astype(canonical(INTEGER))
        return found.reshape((1,) * x.ndim) if keepdim else found

    return extreme, index


_MAX, _ARGMAX = _extreme(jnp.argmax)
_MIN, _ARGMIN = _extreme(jnp.argmin)

OPERATORS: dict[str, Callable] = {
    "aten.max.dim": _MAX,
    "aten.min.dim": _MIN,
    "aten.argmax.default": _ARGMAX,
    "aten.argmin.default": _ARGMIN,
    "aten.cummax.default": _running(lax.cummax),
    "aten.cummin.default": _running(lax.cummin),
    "aten.kthvalue.default": _kth,
    "aten.median.default": _median_of_all,
    "aten.median.dim": _median,
    "aten.sort.default": _sort,
    "aten.sort.stable": _sort_stable,
    "aten.topk.default": _top,
}
